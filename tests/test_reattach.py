"""A kernel outlives the process that started it, and another process takes it over."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from container_provisioner import labels
from container_provisioner.store import RecordStore

from .conftest import Kernel, WriteKernelspec
from .ends import end_of, left_below

pytestmark = pytest.mark.docker

OWNER = """
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(
    kernel_name="contained", cwd=sys.argv[1], independent="independent" in sys.argv
)
client.execute_interactive("x = 1", timeout=30)
print(manager.kernel_id, flush=True)
if "wait" in sys.argv:
    input()
"""

StartOwner = Callable[..., "tuple[subprocess.Popen[str], str]"]


@pytest.fixture
def start_owner(folder: Path, docker_client: docker.DockerClient) -> Iterator[StartOwner]:
    """Start a process that starts a kernel in which ``x`` is 1; the process and the kernel's id."""
    started: list[tuple[subprocess.Popen[str], str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], str]:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert owner.stdout is not None
        started.append((owner, owner.stdout.readline().strip()))
        return started[-1]

    yield start
    for owner, kernel_id in started:
        owner.kill()
        owner.communicate()
        if container := find(docker_client, kernel_id):
            container.remove(force=True)


def find(docker_client: docker.DockerClient, kernel_id: str) -> Any:
    """The kernel's container; None when there is none."""
    label = f"{labels.KERNEL_ID}={kernel_id}"
    found = docker_client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
    return found[0] if found else None


TakeOver = Callable[[str], Any]


@pytest.fixture
async def take_over(runtime_dir: Path) -> AsyncIterator[TakeOver]:
    """Load a kernel's record into a new manager, as a server does that was started again."""
    taken: list[Kernel] = []

    async def load(kernel_id: str) -> Kernel:
        manager = AsyncKernelManager(kernel_name="contained", kernel_id=kernel_id)
        provisioner = KernelProvisionerFactory.instance().create_provisioner_instance(
            kernel_id, manager.kernel_spec, parent=manager
        )
        await provisioner.load_provisioner_info(RecordStore().read(kernel_id))
        manager.provisioner = provisioner
        manager._attempted_start = True  # jupyter_client has no public way to say so
        manager.load_connection_info(provisioner.connection_info)
        taken.append(Kernel(manager, manager.client()))
        taken[-1].client.start_channels()
        return taken[-1]

    yield load
    for kernel in taken:
        kernel.client.stop_channels()
        await kernel.manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(
    "stanza", [{}, {"profile": "dev", "transport": "tcp"}], ids=["sandbox", "dev-tcp"]
)
async def test_kernel_of_a_killed_process_is_taken_over(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    take_over: TakeOver,
    docker_client: docker.DockerClient,
    folder: Path,
    runtime_dir: Path,
    stanza: dict[str, Any],
):
    """F4"""
    kernelspec(**stanza)
    owner, kernel_id = start_owner("wait")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    container = find(docker_client, kernel_id)

    kernel = await take_over(kernel_id)
    assert kernel.manager.has_kernel
    assert await kernel.manager.is_alive()
    assert (kernel.manager.kernel_id, kernel.container_id) == (kernel_id, container.id)
    await kernel.ready()
    assert await kernel.run("x") == "1"
    assert kernel.provisioner.resolve_path(".") == str(folder)

    message_id = kernel.client.execute("print('started')\nwhile True: pass")
    while (await kernel.client.get_iopub_msg(timeout=30))["msg_type"] != "stream":
        pass
    await kernel.manager.interrupt_kernel()
    reply = await kernel.client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == message_id
    assert reply["content"]["ename"] == "KeyboardInterrupt"

    await kernel.restart(cwd=str(folder))
    assert "NameError" in await kernel.run("x")
    assert (kernel.manager.kernel_id, kernel.container_id) == (kernel_id, container.id)

    kernel.client.stop_channels()
    await kernel.manager.shutdown_kernel()
    assert not kernel.manager.has_kernel
    assert find(docker_client, kernel_id) is None
    assert left_below(runtime_dir) == []


@pytest.mark.parametrize("how", ["kill", "remove"])
async def test_kernel_that_died_meanwhile_is_loaded_as_dead(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    take_over: TakeOver,
    docker_client: docker.DockerClient,
    folder: Path,
    how: str,
):
    """F4: neither is it alive for ever, nor is it an error; a restart gives a working kernel."""
    kernelspec()
    owner, kernel_id = start_owner("wait")
    owner.kill()
    owner.wait()
    container = find(docker_client, kernel_id)
    container.kill() if how == "kill" else container.remove(force=True)
    kernel = await take_over(kernel_id)
    assert await end_of(kernel) == {"kill": 137, "remove": 1}[how]
    assert not await kernel.manager.is_alive()
    await kernel.restart(cwd=str(folder))
    assert await kernel.run("6 * 7") == "42"


async def test_death_after_a_takeover_is_noticed(
    kernelspec: WriteKernelspec, start_owner: StartOwner, take_over: TakeOver
):
    kernelspec()
    owner, kernel_id = start_owner("wait")
    owner.kill()
    owner.wait()
    kernel = await take_over(kernel_id)
    await kernel.ready()
    kernel.client.execute("import os; os._exit(3)")
    assert await end_of(kernel) == 3
    assert "it ended with exit code 3" in kernel.provisioner.reason


def test_kernel_of_a_process_that_ends_is_removed(
    kernelspec: WriteKernelspec, start_owner: StartOwner, docker_client: docker.DockerClient
):
    """Nobody has shut it down."""
    kernelspec()
    owner, kernel_id = start_owner()
    owner.wait(timeout=60)
    assert find(docker_client, kernel_id) is None


async def test_independent_kernel_outlives_the_end_of_its_process(
    kernelspec: WriteKernelspec, start_owner: StartOwner, take_over: TakeOver
):
    """F6: the manager's connection file goes with the manager; the record is sufficient."""
    kernelspec()
    owner, kernel_id = start_owner("independent")
    owner.wait(timeout=60)
    kernel = await take_over(kernel_id)
    await kernel.ready()
    assert await kernel.run("x") == "1"
