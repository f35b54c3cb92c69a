"""A start that fails, takes too long or is cancelled leaves nothing, and can be tried again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import errors, labels

from .conftest import PLAIN_IMAGE, StartKernel, WriteKernelspec
from .ends import left_below, until

pytestmark = pytest.mark.docker


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def test_registry_that_never_answers(
    start_kernel: StartKernel, silent_server: socket.socket, runtime_dir: Path
):
    with pytest.raises(errors.PullFailed, match=r"not finished after 1 s \(pull_timeout\)"):
        await start_kernel(
            image=f"localhost:{silent_server.getsockname()[1]}/image:1", pull_timeout=1
        )
    assert left_below(runtime_dir) == []


async def test_pull_can_be_cancelled(
    kernelspec: WriteKernelspec, silent_server: socket.socket, folder: Path, runtime_dir: Path
):
    """F27: the engine may take as long as it likes."""
    image = f"localhost:{silent_server.getsockname()[1]}/image:1"
    manager = AsyncKernelManager(kernel_name=kernelspec(image=image))
    start = asyncio.create_task(manager.start_kernel(cwd=str(folder)))
    connection, _ = await asyncio.to_thread(silent_server.accept)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(start, 30)
    connection.close()
    assert left_below(runtime_dir) == []


PULLING = """
from jupyter_client.manager import KernelManager
try:
    KernelManager(kernel_name="contained").start_kernel()
except RuntimeError as exc:
    print(exc)
"""


def test_pull_that_was_given_up_does_not_keep_the_process(
    kernelspec: WriteKernelspec, silent_server: socket.socket
):
    """F16: no thread is left that somebody would wait for."""
    image = f"localhost:{silent_server.getsockname()[1]}/image:1"
    kernelspec(image=image, pull_timeout=1)
    done = subprocess.run(
        [sys.executable, "-c", PULLING], capture_output=True, text=True, timeout=30
    )
    assert "not finished after 1 s" in done.stdout


async def test_socket_that_nobody_serves(start_kernel: StartKernel, folder: Path):
    path = folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))  # and does not listen
        with pytest.raises(errors.EngineNotFound, match=r"engine.sock \(connection refused\)"):
            await start_kernel(engine_url=f"unix://{path}")


async def test_failed_restart_leaves_nothing_and_is_no_end(
    start_kernel: StartKernel, folder: Path, runtime_dir: Path
):
    """The workspace has gone; when it is back, so is the kernel."""
    (folder / "work").mkdir()
    kernel = await start_kernel(launch={"cwd": str(folder / "work")})
    (folder / "work").rmdir()
    with pytest.raises(errors.WorkspaceError, match="is not a directory"):
        await kernel.restart()
    assert not await kernel.manager.is_alive()
    assert left_below(runtime_dir) == []
    (folder / "work").mkdir()
    await kernel.restart()
    assert await kernel.run("1 + 1") == "2"


@pytest.mark.parametrize("stage", ["there", "running"])
async def test_cancelled_start_leaves_nothing(
    kernelspec: WriteKernelspec,
    docker_client: docker.DockerClient,
    folder: Path,
    runtime_dir: Path,
    stage: str,
):
    """F27"""
    kernel_id = str(uuid.uuid4())
    name = labels.container_name(kernel_id)

    def state() -> str:
        try:
            return str(docker_client.containers.get(name).status)
        except docker.errors.NotFound:
            return ""

    manager = AsyncKernelManager(kernel_name=kernelspec(argv=["sleep", "1000"]))
    start = asyncio.create_task(manager.start_kernel(cwd=str(folder), kernel_id=kernel_id))
    await until(lambda: state() == "running" if stage == "running" else state())
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert state() == ""
    assert not manager.has_kernel
    assert left_below(runtime_dir) == []


@pytest.fixture
def occupy(docker_client: docker.DockerClient) -> Iterator[Callable[..., Container]]:
    """Make a container that has nothing to do with this process."""
    made: list[Container] = []

    def make(name: str, **options: Any) -> Container:
        made.append(
            docker_client.containers.create(
                PLAIN_IMAGE, ["sleep", "1000"], name=name, network_mode="none", **options
            )
        )
        return made[-1]

    yield make
    for container in made:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)


async def test_ended_container_of_the_same_kernel_makes_room(
    start_kernel: StartKernel, occupy: Callable[..., Container]
):
    """F26: and one whose name only looks like it is left alone."""
    kernel_id = str(uuid.uuid4())
    name = labels.container_name(kernel_id)
    old = occupy(name, labels={labels.KERNEL_ID: kernel_id})
    similar = occupy(f"{name}-2")
    kernel = await start_kernel(launch={"kernel_id": kernel_id})
    assert await kernel.run("1 + 1") == "2"
    assert kernel.container_id != old.id
    similar.reload()
    assert similar.status == "created"


@pytest.mark.parametrize(
    ("whose", "error"),
    [("this-kernel's", errors.KernelNotAdoptable), ("somebody-else's", errors.EngineError)],
)
async def test_container_that_is_in_use_is_left_alone(
    start_kernel: StartKernel, occupy: Callable[..., Container], whose: str, error: type[Exception]
):
    """F26, F32"""
    kernel_id = str(uuid.uuid4())
    ours = {labels.KERNEL_ID: kernel_id} if whose == "this-kernel's" else {}
    container = occupy(labels.container_name(kernel_id), labels=ours)
    container.start()
    with pytest.raises(error, match=container.id[:12]):
        await start_kernel(launch={"kernel_id": kernel_id})
    container.reload()
    assert container.status == "running"
