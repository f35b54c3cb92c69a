"""Who changes a record is alone with it, and never waits for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.errors import KernelNotAdoptable, RecordsLocked
from container_provisioner.store import RecordStore

FIRST = {"kernel_id": "k", "count": 0}


@pytest.fixture
def records(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


def names(records: RecordStore) -> list[str]:
    return sorted(path.name for path in records.folder.iterdir() if path.name != ".lock")


COUNT = """
import sys
from pathlib import Path
from container_provisioner.store import RecordStore
records = RecordStore(Path(sys.argv[1]))
for _ in range(100):
    records.update("k", lambda record: {**record, "count": record["count"] + 1})
"""


def test_processes_and_threads_change_a_record_one_after_the_other(records: RecordStore) -> None:
    records.write("k", FIRST)
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(records.folder)]) for _ in range(4)
    ]

    def count() -> None:
        for _ in range(50):
            records.update("k", lambda record: {"kernel_id": "k", "count": record["count"] + 1})  # type: ignore[index]

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    assert records.read("k") == {"kernel_id": "k", "count": 600}
    assert len(names(records)) == 1


def test_who_reads_sees_the_record_before_or_after_and_nothing_else(records: RecordStore) -> None:
    records.write("k", FIRST)
    with subprocess.Popen([sys.executable, "-c", COUNT, str(records.folder)]) as process:
        seen = []
        while process.poll() is None:
            seen.append(records.read("k")["count"])
            assert records.read_all()[1] == []
    assert seen == sorted(seen)


def test_a_change_that_is_refused_changes_nothing_and_lets_go(records: RecordStore) -> None:
    records.write("k", FIRST)

    def refuse(record: dict[str, Any] | None) -> dict[str, Any] | None:
        raise KernelNotAdoptable(f"not {record}")

    with pytest.raises(KernelNotAdoptable, match="count"):
        records.update("k", refuse)
    records.update("k", lambda record: record)
    assert records.read("k") == FIRST
    records.update("k", lambda _: None)
    records.update("k", lambda record: record)  # None, for there is none
    assert names(records) == []


def test_a_torn_record_is_none_to_who_changes_it(records: RecordStore) -> None:
    records.write("k", FIRST)
    records.path("k").write_bytes(b"torn")
    given = []
    records.update("k", lambda record: given.append(record) or FIRST)  # type: ignore[func-returns-value]
    assert (given, records.read("k")) == ([None], FIRST)


@pytest.fixture
def stopped(records: RecordStore) -> Iterator[subprocess.Popen[str]]:
    """A process that somebody has stopped while it was changing a record."""
    code = f"{COUNT}records.update('k', lambda record: print('in it', flush=True) or input())"
    records.write("k", FIRST)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(records.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in it\n"
        process.send_signal(signal.SIGSTOP)
        yield process
        process.kill()


def test_nobody_waits_for_ever_for_a_stopped_process(
    records: RecordStore,
    stopped: subprocess.Popen[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("container_provisioner.store.records.LOCK_SECONDS", 0.3)
    with pytest.raises(RecordsLocked, match="Nothing was changed"):
        records.update("k", lambda _: None)
    assert records.read("k")["count"] == 100  # reading needs no lock
    stopped.kill()
    stopped.wait()
    records.update("k", lambda _: FIRST)
    assert records.read("k") == FIRST
