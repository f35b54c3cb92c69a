"""The guard as a process: there is one while there is something to guard, and nothing ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.guard import GuardUnavailable, ask_guard, client
from container_provisioner.guard.client import socket_path
from container_provisioner.store import leases

from .guards import HASTY, guards
from .server_process import eventually

OWNER = """
import asyncio, sys
from container_provisioner.guard import ask_guard, client
from container_provisioner.store import own_lease
client._BOOT = sys.argv[1]
print("imported", flush=True)
input()
lease = own_lease()
asyncio.run(ask_guard("guard", owner=lease.id))
print(lease.id, flush=True)
input()
"""


class Owner:
    """A process that owns kernels as far as the guard can tell, with a process group of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, HASTY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.line() == "imported"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ask(self) -> str:
        """Have it guarded; its lease."""
        self.go_on()
        return self.line()

    def kill(self) -> None:
        """And whatever it has started that did not leave its process group."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()


NewOwner = Callable[[], Owner]


@pytest.fixture
def new_owner(runtime_dir: Path) -> Iterator[NewOwner]:
    started: list[Owner] = []

    def start() -> Owner:
        started.append(Owner())
        return started[-1]

    yield start
    for owner in started:
        owner.kill()


def ask(do: str, **facts: Any) -> dict[str, Any]:
    """Of the guard that runs; none is started."""
    return asyncio.run(ask_guard(do, start=False, **facts))


def the_guard(runtime_dir: Path) -> int:
    (pid,) = guards(runtime_dir)
    return pid


def test_one_guard_starts_however_many_ask_at_once(new_owner: NewOwner, runtime_dir: Path) -> None:
    owners = [new_owner() for _ in range(20)]
    for owner in owners:
        owner.go_on()
    assert sorted(owner.line() for owner in owners) == leases()
    first = the_guard(runtime_dir)
    new_owner().ask()
    assert guards(runtime_dir) == [first]


def test_it_ends_when_there_is_nothing_to_guard(new_owner: NewOwner, runtime_dir: Path) -> None:
    one, other = new_owner(), new_owner()
    assert sorted([one.ask(), other.ask()]) == leases()
    one.kill()
    other.go_on()  # it ends as it should
    other.process.wait()
    eventually(lambda: not guards(runtime_dir), "the guard to end")
    assert leases() == []
    assert (runtime_dir / "container-provisioner" / "guard.log").read_text() == ""  # no news
    assert not socket_path().exists()
    with pytest.raises(GuardUnavailable, match="No guard runs"):
        ask("settle", owner="")


def test_it_ends_when_its_folder_is_removed(new_owner: NewOwner, runtime_dir: Path) -> None:
    """Nobody could ask it anything any more. Who asks next has one of his own again."""
    owner = new_owner()
    owner.ask()
    first = the_guard(runtime_dir)
    shutil.rmtree(runtime_dir / "container-provisioner")
    new_owner().ask()
    eventually(lambda: first not in guards(runtime_dir), "the guard to end")
    assert len(guards(runtime_dir)) == 1
    assert ask("settle", owner="") == {}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_what_ends_a_server_does_not_end_the_guard(
    new_owner: NewOwner, runtime_dir: Path, signum: int
) -> None:
    """Ctrl-C, a terminal that is closed, and the death of all processes of who started it."""
    first, second = new_owner(), new_owner()
    first.ask(), second.ask()
    pid = the_guard(runtime_dir)
    assert os.getsid(pid) != os.getsid(first.process.pid)
    os.killpg(first.process.pid, signum)
    first.kill()
    os.kill(pid, signum)
    assert ask("settle", owner="") == {}
    assert guards(runtime_dir) == [pid]


def test_sigterm_lets_it_finish_what_it_promised(new_owner: NewOwner, runtime_dir: Path) -> None:
    """A machine shuts down: the guard has to outlast the server."""
    owner, late = new_owner(), new_owner()
    owner.ask()
    pid = the_guard(runtime_dir)
    os.kill(pid, signal.SIGTERM)
    late.ask()
    assert guards(runtime_dir) == [pid]
    owner.kill()
    late.kill()
    eventually(lambda: not guards(runtime_dir), "the guard to end")
    assert leases() == []


def test_one_that_was_killed_is_replaced_and_the_next_one_does_what_was_left(
    new_owner: NewOwner, runtime_dir: Path
) -> None:
    dead, living = new_owner(), new_owner()
    dead.ask()
    still_there = [living.ask()]
    first = the_guard(runtime_dir)
    os.kill(first, signal.SIGKILL)
    dead.kill()
    eventually(lambda: not guards(runtime_dir), "the guard to be gone")
    assert socket_path().exists()  # nobody listens there
    newcomer = new_owner()
    still_there = sorted([*still_there, newcomer.ask()])
    assert guards(runtime_dir) != [first]
    eventually(lambda: leases() == still_there, "the dead owner to be settled")


NONSENSE = [
    *(b"", b"\n", b"hello\n", b"[]\n", b"null\n", b"{}\n", b"\xff\n", b"x" * 200_000 + b"\n"),
    *(b'{"do": "dance"}\n', b'{"do": "guard"}\n', b'{"do": "take", "kernel": []}\n'),
    *(b'{"do": "keep", "kernel": "none"}\n', b"[" * 60_000 + b"\n"),
]


def test_a_request_that_makes_no_sense_does_no_harm(new_owner: NewOwner, runtime_dir: Path) -> None:
    new_owner().ask()
    pid = the_guard(runtime_dir)
    for request in NONSENSE:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(socket_path()))
            answer = b""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
        assert not answer or set(json.loads(answer)) == {"error"}
    assert ask("settle", owner="") == {}
    assert guards(runtime_dir) == [pid]


def test_a_guard_that_hangs_is_not_taken_for_none(
    new_owner: NewOwner, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_owner().ask()
    pid = the_guard(runtime_dir)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    try:
        with pytest.raises(GuardUnavailable, match=r"does not answer within 0\.2 s"):
            ask("settle", owner="")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert guards(runtime_dir) == [pid]


def test_a_guard_that_cannot_start_says_why(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/usr/bin/false")
    with pytest.raises(GuardUnavailable, match="could not be started"):
        asyncio.run(ask_guard("guard", owner="0123456789abcdef"))
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(GuardUnavailable, match="could not be started"):
        asyncio.run(ask_guard("guard", owner="0123456789abcdef"))
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(GuardUnavailable, match="no Python interpreter"):
        asyncio.run(ask_guard("guard", owner="0123456789abcdef"))
