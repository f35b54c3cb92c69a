"""A lease is held exactly as long as its process lives, and everybody can see that."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.store import (
    hold,
    lease_facts,
    lease_is_held,
    leases,
    own_lease,
    state_folder,
)
from container_provisioner.store.lease import end_lease, wait_for_lease
from container_provisioner.store.places import sweep

from .holder import Holder

Hold = Callable[..., Holder]
Forked = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def holder(runtime_dir: Path) -> Iterator[Hold]:
    """Start a process that takes a lease, and then runs some code."""
    started: list[Holder] = []

    def start(then: str = "") -> Holder:
        started.append(Holder(then))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.process.communicate()


@pytest.fixture
def forked() -> Iterator[Forked]:
    """Call a function in a forked child, which then lives to the end of the test; its answer."""
    children: list[int] = []

    def call(function: Callable[[], Any]) -> Any:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write, json.dumps(function()).encode())
            finally:
                signal.pause()
                os._exit(0)
        children.append(child)
        os.close(write)
        assert select.select([read], [], [], 20)[0], "the child says nothing"
        with open(read, "rb", buffering=0) as answers:
            return json.loads(answers.read(65536))

    yield call
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lease_is_held_while_its_process_lives_and_is_seen_by_all(holder: Hold) -> None:
    one, other = holder(), holder()
    assert leases() == sorted([one.lease, other.lease])
    assert (lease_is_held(one.lease), lease_is_held(other.lease)) == (True, True)
    other.do(f"from container_provisioner.store import lease_is_held as f; assert f('{one.lease}')")
    one.kill()
    assert (lease_is_held(one.lease), lease_is_held(other.lease)) == (False, True)
    assert leases() == sorted([one.lease, other.lease])  # until its affairs are settled
    end_lease(one.lease)
    end_lease(one.lease)
    assert leases() == [other.lease]


def test_a_process_that_ends_as_it_should_holds_nothing_either(holder: Hold) -> None:
    one = holder("sys.exit()")
    one.process.wait()
    assert not lease_is_held(one.lease)
    assert wait_for_lease(one.lease)


def test_what_a_holder_says_of_itself_can_be_read_while_it_lives_and_after(holder: Hold) -> None:
    """The engines on which there may be something to remove."""
    one = holder()
    facts = {"pid": one.process.pid, "program": "python", "engines": ["unix:///engine.sock"]}
    assert lease_facts(one.lease) == facts
    one.do("lease.uses('unix:///other.sock'); lease.uses('unix:///engine.sock')")
    facts["engines"] = ["unix:///engine.sock", "unix:///other.sock"]
    assert lease_facts(one.lease) == facts
    assert lease_is_held(one.lease)
    one.kill()
    assert lease_facts(one.lease) == facts


def test_looking_never_disturbs_the_holder_and_never_looks_like_one(holder: Hold) -> None:
    one, other = holder(), holder()
    look = f"[lease_is_held('{one.lease}') and lease_facts('{one.lease}') for n in range(500)]"
    other.do(f"from container_provisioner.store import *; assert all({look})")
    assert lease_is_held(one.lease)
    one.kill()
    other.do(f"assert not any({look})")
    assert not lease_is_held(one.lease)


def test_a_process_waits_for_the_end_of_another(holder: Hold) -> None:
    one = holder()
    wait = f"from container_provisioner.store.lease import *; wait_for_lease('{one.lease}')"
    waiting = holder(f"{wait}; print('over', flush=True)")
    assert waiting.process.stdout is not None
    assert not select.select([waiting.process.stdout], [], [], 0.5)[0]
    one.kill()
    assert select.select([waiting.process.stdout], [], [], 20)[0]


@pytest.mark.parametrize(
    "child",
    [
        "os.fork() or signal.pause()",
        "multiprocessing.get_context('fork').Process(target=signal.pause).start()",
        "subprocess.Popen(['sleep', '60'], close_fds=False)",
    ],
    ids=["fork", "multiprocessing", "command"],
)
def test_a_child_that_outlives_its_parent_does_not_hold_its_lease(holder: Hold, child: str) -> None:
    """A worker of a server that was killed would otherwise keep the server's kernels."""
    one = holder(f"import multiprocessing, os, signal, subprocess; {child}")
    one.do(
        "children = open(f'/proc/self/task/{os.getpid()}/children').read().split(); assert children"
    )
    children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text().split()
    one.kill()
    assert not lease_is_held(one.lease)
    for pid in children:
        os.kill(int(pid), signal.SIGKILL)  # it was there all the time


def test_a_forked_child_is_an_owner_of_its_own(runtime_dir: Path, forked: Forked) -> None:
    parents = own_lease().id
    childs = forked(lambda: own_lease().id)
    assert childs != parents
    assert (lease_is_held(parents), lease_is_held(childs)) == (True, True)
    assert forked(lambda: [lease_is_held(lease) for lease in (parents, childs)]) == [True, True]


def test_there_is_one_lease_for_a_process_and_place(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = own_lease()
    assert own_lease() is lease
    assert lease_is_held(lease.id)
    assert lease_facts(lease.id)["pid"] == os.getpid()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime_dir / "another"))
    assert own_lease().id != lease.id
    assert not lease_is_held(lease.id)  # not there
    monkeypatch.undo()


def test_a_released_lease_is_free_and_the_next_is_another(
    runtime_dir: Path, forked: Forked
) -> None:
    lease = own_lease()
    lease.release()
    assert not lease_is_held(lease.id)
    assert forked(lambda: lease_is_held(lease.id)) is False
    assert own_lease().id != lease.id


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_lease_that_somebody_removed_is_taken_again_under_its_name(
    runtime_dir: Path, forked: Forked, what: str
) -> None:
    """Its kernels carry that name."""
    lease = own_lease()
    assert lease.is_there()
    lease.path.unlink()
    if what == "folder":
        lease.path.parent.rmdir()
    assert not lease.is_there()
    assert forked(lambda: lease_is_held(lease.id)) is False
    again = own_lease()
    assert (again.id, again.is_there()) == (lease.id, True)
    assert forked(lambda: lease_is_held(lease.id)) is True


@pytest.mark.parametrize("name", ["", "0123456789abcdef", "0123", "../place", ".hidden", "ä" * 16])
def test_a_lease_that_is_none_is_nobodys(runtime_dir: Path, name: str) -> None:
    assert (lease_is_held(name), lease_facts(name)) == (False, {})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_facts_that_make_no_sense_are_none(runtime_dir: Path, content: bytes) -> None:
    own_lease()
    (state_folder() / "owners" / "0123456789abcdef").write_bytes(content)
    assert lease_facts("0123456789abcdef") == {}
    assert not lease_is_held("0123456789abcdef")


def test_leases_are_private_and_what_is_half_made_is_none(runtime_dir: Path) -> None:
    """A process may be killed before its lease has a name; what it left goes, and not too soon."""
    lease = own_lease()
    assert (lease.path.stat().st_mode & 0o777, lease.path.parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    new, old = (lease.path.with_name(f".{n * 16}") for n in "01")
    new.touch()
    old.touch()
    os.utime(old, (0, 0))
    assert leases() == [lease.id]
    sweep()
    assert sorted(lease.path.parent.iterdir()) == sorted([lease.path, new])


def test_who_looks_for_leftovers_makes_no_folder(runtime_dir: Path) -> None:
    """A guard may be at it when somebody removes the folder."""
    sweep()
    assert list(runtime_dir.iterdir()) == []


def test_a_file_is_held_by_one_process_to_its_end(holder: Hold, runtime_dir: Path) -> None:
    """Of two servers with one root directory, one keeps its sessions in the file."""
    path = runtime_dir / "sessions.lock"
    one, other = holder("from pathlib import Path"), holder("from pathlib import Path")
    code = f"from container_provisioner.store import hold; assert hold(Path('{path}'))"
    one.do(f"{code} is True")
    other.do(f"{code} is False")
    assert hold(path) is False
    one.kill()
    assert hold(path) is True
