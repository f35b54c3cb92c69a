"""The records: private, whole or not at all; and what is none harms nobody."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.store import RecordStore

INFO = {"kernel_id": "k/../1", "key": "secret", "ä": [1]}
FIRST = {"kernel_id": "k", "count": 0}

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture
def records(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names(records: RecordStore) -> list[str]:
    return sorted(path.name for path in records.folder.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("umask", [0, 0o777 & ~0o700])
def test_a_record_is_private_whatever_the_umask(records: RecordStore, umask: int) -> None:
    before = os.umask(umask)
    try:
        records.write("k/../1", INFO)
        records.update("k", lambda _: FIRST)
    finally:
        os.umask(before)
    assert records.read("k/../1") == INFO
    assert names(records) == sorted(records.path(name).name for name in ("k/../1", "k"))
    assert [mode(records.folder), *(mode(path) for path in records.folder.glob("*.json"))] == [
        0o700,
        0o600,
        0o600,
    ]


@given(st.text(), st.dictionaries(st.text(), anything))
def test_whatever_can_be_written_is_read_again(kernel_id: str, facts: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = RecordStore(Path(folder))
        record = {**facts, "kernel_id": kernel_id}
        records.write(kernel_id, record)
        assert records.read(kernel_id) == record
        assert records.read_all() == ([record], [])
        assert json.loads(records.path(kernel_id).read_text("ascii")) == record


def test_a_record_is_replaced_whole_and_no_link_is_followed(
    records: RecordStore, tmp_path: Path
) -> None:
    records.folder.mkdir()
    (tmp_path / "victim").write_text("precious")
    records.path("k/../1").symlink_to(tmp_path / "victim")
    records.write("k/../1", INFO)
    assert records.read("k/../1") == INFO
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_record_that_cannot_be_written_changes_nothing(records: RecordStore) -> None:
    records.write("k/../1", INFO)
    with pytest.raises(TypeError):
        records.write("k/../1", {**INFO, "key": b"bytes"})
    with pytest.raises(TypeError):
        records.update("k/../1", lambda _: {**INFO, "key": b"bytes"})
    assert records.read("k/../1") == INFO
    assert len(names(records)) == 1


def test_a_missing_record(records: RecordStore) -> None:
    assert records.read_all() == ([], [])
    with pytest.raises(KernelNotAdoptable, match="cannot be read"):
        records.read("k")
    records.remove("k")
    records.write("k", FIRST)
    records.remove("k")
    assert names(records) == []


SPOILT = {
    "empty": b"",
    "torn": b'{"kernel_id": "k", "con',
    "no JSON": b"hello",
    "no object": b'["k"]',
    "null": b"null",
    "no kernel": b"{}",
    "another kernel's": b'{"kernel_id": "other"}',
    "no name": b'{"kernel_id": {"k": 1}}',
    "binary": bytes(range(256)) * 8,
    "not ASCII": '{"kernel_id": "k", "ä": 1}'.encode(),
    "too deep": b"[" * 100_000,
    "too large": b'{"kernel_id": "k"}' + b" " * 1024**2,
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT)
def test_what_is_no_record_is_refused_reported_once_and_set_aside(
    records: RecordStore, content: bytes
) -> None:
    records.write("good", {"kernel_id": "good"})
    records.folder.joinpath(records.path("k").name).write_bytes(content)
    with pytest.raises(KernelNotAdoptable, match=str(records.path("k"))):
        records.read("k")
    found, problems = records.read_all()
    aside = records.path("k").with_suffix(".unreadable")
    assert found == [{"kernel_id": "good"}]
    assert len(problems) == 1
    assert str(records.path("k")) in problems[0]
    assert problems[0].endswith(f"It was set aside as {aside.name}.")
    assert aside.read_bytes() == content
    assert records.read_all() == ([{"kernel_id": "good"}], [])


@pytest.mark.parametrize(
    "kind", ["link", "pipe", "folder", pytest.param("another user's", marks=as_root)]
)
def test_what_is_not_a_file_of_this_user_is_not_even_opened(
    records: RecordStore, tmp_path: Path, kind: str
) -> None:
    records.write("k", FIRST)
    path = records.path("k")
    if kind == "another user's":
        os.chown(path, 54321, 54321)
    else:
        path.rename(tmp_path / "elsewhere")
        make = {"link": lambda: path.symlink_to(tmp_path / "elsewhere"), "folder": path.mkdir}
        make.get(kind, lambda: os.mkfifo(path))()
    with pytest.raises(KernelNotAdoptable, match="is not a file of this user"):
        records.read("k")
    assert [len(part) for part in records.read_all()] == [0, 1]
    assert records.read_all() == ([], [])
    records.write("k", FIRST)
    assert records.read_all() == ([FIRST], [])


def test_what_was_set_aside_goes_with_its_kernel(records: RecordStore) -> None:
    """There may be a key in it."""
    records.write("k", FIRST)
    records.path("k").write_bytes(b"torn")
    records.read_all()
    records.remove("k")
    assert names(records) == []


def test_a_record_that_is_cut_off_anywhere_is_never_half_believed(records: RecordStore) -> None:
    records.write("k", {"kernel_id": "k", "connection_info": {"key": "secret"}})
    whole = records.path("k").read_bytes()
    for length in range(len(whole)):
        records.path("k").write_bytes(whole[:length])
        with pytest.raises(KernelNotAdoptable):
            records.read("k")
