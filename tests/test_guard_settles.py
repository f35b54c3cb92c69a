"""What the guard does with a dead owner's containers, and what it leaves alone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from container_provisioner import labels
from container_provisioner.guard import ask_guard
from container_provisioner.guard.settle import settle
from container_provisioner.store import KernelDirectory, Place, RecordStore, own_lease, place_id

from .conftest import PLAIN_IMAGE, WriteKernelspec, own_jupyter, write_kernelspec
from .ends import left_below
from .guards import guards, hasty_guard
from .owners import Owner, StartOwner, owners, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import eventually

pytestmark = pytest.mark.docker

ENGINE = Path("/var/run/docker.sock")
SETTLED_SECONDS = 10.0

OWNER = """
import asyncio, sys
from container_provisioner.guard import ask_guard
from container_provisioner.store import own_lease
lease = own_lease()
lease.uses(sys.argv[1])
asyncio.run(ask_guard("guard", owner=lease.id))
print(lease.id, flush=True)
input()
"""

Label = Callable[..., Any]


@pytest.fixture
def labelled(docker_client: docker.DockerClient) -> Iterator[Label]:
    """A container that says whose it is, and is nothing else."""
    made = []

    def create(owner: str, place: str, **more: str) -> Any:
        container = docker_client.containers.create(
            PLAIN_IMAGE, ["sleep", "60"], labels={**labels.owned(owner=owner, place=place), **more}
        )
        made.append(container)
        return container

    yield create
    for container in made:
        if there(container):
            container.remove(force=True)


@pytest.fixture
def owner_of_nothing(runtime_dir: Path) -> Iterator[Callable[[str], tuple[Any, str]]]:
    """A process that says which engine it uses, and its lease."""
    with ExitStack() as stack:

        def start(engine_url: str) -> tuple[subprocess.Popen[str], str]:
            argv = [sys.executable, "-c", OWNER, engine_url]
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            return process, process.stdout.readline().strip()

        yield start


def there(container: Any) -> bool:
    try:
        container.reload()
    except docker.errors.NotFound:
        return False
    return True


def settled(owner: Owner, runtime_dir: Path) -> None:
    """All of its kernel goes within ten seconds."""
    eventually(
        lambda: owner.container is None and not left_below(runtime_dir),
        "everything of the kernel to go",
        SETTLED_SECONDS,
    )


def test_everything_of_a_dead_owners_kernel_goes_within_ten_seconds(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    """By SIGKILL; nobody has started anything since, and the other's stays until it dies too."""
    kernelspec()
    owner, other = start_owner(), start_owner()
    owner.die()
    eventually(lambda: owner.container is None, "one to go", SETTLED_SECONDS)
    assert other.container.status == "running"
    assert RecordStore().read(other.kernel_id)["kernel_id"] == other.kernel_id
    other.die()
    settled(other, runtime_dir)


def test_a_killed_guards_work_is_done_by_the_next_one(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    kernelspec()
    owner = start_owner()
    (pid,) = guards(runtime_dir)
    os.kill(pid, signal.SIGKILL)
    owner.die()
    assert owner.container.status == "running"
    asyncio.run(ask_guard("guard", owner=own_lease().id))
    settled(owner, runtime_dir)


async def test_a_kernel_that_was_to_end_can_be_started_again_at_once(
    kernelspec: WriteKernelspec, start_owner: StartOwner, folder: Path
) -> None:
    """Under its id, which a notebook may remember: a new one, for the old one was to end."""
    kernelspec()
    owner = start_owner()
    container = owner.container
    owner.die()
    managers = AsyncMultiKernelManager()
    await managers.start_kernel(kernel_id=owner.kernel_id, kernel_name="contained", cwd=str(folder))
    assert owner.container.id != container.id
    await managers.shutdown_all(now=True)
    assert owner.container is None


def test_nobody_elses_container_is_touched(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    labelled: Label,
    docker_client: docker.DockerClient,
) -> None:
    """F32: not in the same place, not in another place, not of an owner of the same name there."""
    kernelspec()
    mine = start_owner()
    lease, place = RecordStore().read(mine.kernel_id)["owner"], place_id()
    with own_jupyter() as elsewhere, owners(elsewhere.parent, docker_client) as start_elsewhere:
        write_kernelspec(elsewhere)
        theirs = start_elsewhere()
        others = [
            labelled(lease, place_id()),  # place_id() is theirs here
            labelled(own_lease().id, place),
            labelled("", place),
            labelled(lease, ""),
        ]
        lost = labelled(lease, place)
        mine.die()
        eventually(lambda: not there(lost), "what is the owner's to go", SETTLED_SECONDS)
        assert mine.container is None
        assert [there(container) for container in others] == [True] * 4
        assert theirs.container.status == "running"
        theirs.end()


def test_an_engine_that_does_not_answer_is_tried_again(
    owner_of_nothing: Callable[[str], tuple[Any, str]], labelled: Label, runtime_dir: Path
) -> None:
    """Until then the lease stays: it says on which engine there is something to do."""
    socket = runtime_dir.parent / "engine.sock"
    process, lease = owner_of_nothing(f"unix://{socket}")
    left = labelled(lease, place_id())
    process.kill()
    log = runtime_dir / "container-provisioner" / "guard.log"
    eventually(lambda: log.read_text().count("No container engine answers") > 1, "two tries")
    assert there(left)
    socket.symlink_to(ENGINE)
    eventually(lambda: not there(left), "the container to go")


def test_a_kept_kernel_that_nobody_has_ends_when_its_time_is_over(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    """Even when its guard was killed, or somebody writes nonsense into another one's record."""
    kernelspec(on_server_exit="keep", max_idle=3.0)
    idle, other = start_owner(), start_owner()
    idle.end()
    other.end()
    (pid,) = guards(runtime_dir)
    os.kill(pid, signal.SIGKILL)
    records = RecordStore()
    good = records.read(other.kernel_id)
    with hasty_guard():
        asyncio.run(ask_guard("settle", owner=good["owner"]))
    bad = {**good, "container": {**good["container"], "max_idle": "later"}}
    records.write(other.kernel_id, bad)
    eventually(lambda: idle.container is None, "the idle kernel to end")
    assert other.container.status == "running"
    records.write(other.kernel_id, {"kernel_id": other.kernel_id})
    time.sleep(0.5)  # the guard looks ten times in a second
    records.write(other.kernel_id, good)
    settled(other, runtime_dir)


def test_the_guard_gives_no_secret_away(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    runtime_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What anybody may read is its command line; and its log is private all the same."""
    kernelspec(on_server_exit="keep", max_idle=1.0)
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "hunter2")
    owner = start_owner()
    key = RecordStore().read(owner.kernel_id)["connection_info"]["key"]
    (pid,) = guards(runtime_dir)
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    owner.die()
    settled(owner, runtime_dir)
    log = runtime_dir / "container-provisioner" / "guard.log"
    assert f"Kernel {owner.kernel_id}" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    for words in (command, log.read_text()):
        assert "hunter2" not in words
        assert key not in words


async def test_who_waits_for_the_records_keeps_nobody_else_waiting(runtime_dir: Path) -> None:
    """The guard answers all owners in one event loop; others may hold the records for seconds."""
    owner, records = "0123456789abcdef", RecordStore()
    names = ("launch_id", "container_id", "container_name", "image", "spec_digest")
    facts = {
        "identity": {"kernel_id": "k", **dict.fromkeys(names, "gone")},
        "directory": str(KernelDirectory.of("k").path),
        "transport": "ipc",
        "engine_url": f"unix://{ENGINE}",
    }
    records.write("k", {"kernel_id": "k", "owner": owner, "container": facts})
    held, let_go = threading.Event(), threading.Event()

    def hold(record: dict[str, Any] | None) -> None:
        held.set()
        let_go.wait(30)

    holder = threading.Thread(target=records.update, args=("another", hold))
    holder.start()
    held.wait()
    asyncio.get_running_loop().call_later(0.5, let_go.set)  # by the loop that must not wait
    done = await settle(owner, [], records, Place.own(), logging.getLogger(__name__))
    holder.join()
    assert done.removed == ["k"]
    assert not records.path("k").exists()
