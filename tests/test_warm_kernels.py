"""Which kernels start warm and which do not, and that a warm one can be handed on like any other.

What a kernel does once it has started is shown by `test_warm_as_cold`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.ioloop import AsyncIOLoopKernelManager

from container_provisioner.errors import ConfigurationError
from container_provisioner.store import RecordStore
from container_provisioner.warm import pool as pool_module

from .conftest import IMAGE
from .ends import left_below, until
from .owners import StartOwner, assert_controlled, start_owner_fixture  # noqa: F401 - a fixture
from .pools import OpenPool, is_warm, warm_pool_fixture  # noqa: F401 - a fixture
from .successor import Successor, successor_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

TCP = {"profile": "dev", "transport": "tcp"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits here for what takes its time in a server."""
    monkeypatch.setattr(pool_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pool_module, "ANSWER_SECONDS", 0.0)


async def test_every_container_serves_one_kernel(
    warm_pool: OpenPool, docker_client: docker.DockerClient
):
    pool = await warm_pool(size=2)
    waiting = [offer.container_id for offer in pool.waiting]
    first, second = await pool.start(), await pool.start()
    assert [first.container_id, second.container_id] == waiting  # the oldest first
    assert await first.run("x = 20; x + 1") == "21"
    assert "NameError" in await second.run("x")
    await second.manager.shutdown_kernel()
    await pool.close()
    third = await pool.start()
    assert not is_warm(third, docker_client)
    assert third.container_id not in waiting


@pytest.mark.parametrize(
    ("stanza", "now"),
    [({}, False), ({}, True), (TCP, False), ({"image": IMAGE}, True)],
    ids=["ipc", "ipc-now", "tcp", "image-now"],
)
async def test_recreate_takes_one_that_waits(
    warm_pool: OpenPool, docker_client: docker.DockerClient, stanza: dict[str, Any], now: bool
):
    pool = await warm_pool(restart_mode="recreate", **stanza)
    kernel = await pool.start()
    old = kernel.container_id
    await kernel.run("import pathlib; (pathlib.Path.home() / 'kept').touch(); x = 1")
    await pool.full()
    (waiting,) = pool.waiting
    await kernel.restart(now=now)
    assert kernel.container_id == waiting.container_id
    assert is_warm(kernel, docker_client)
    assert await kernel.run("import pathlib; (pathlib.Path.home() / 'kept').exists()") == "False"
    assert "NameError" in await kernel.run("x")
    everything = partial(docker_client.containers.list, all=True, ignore_removed=True)
    await until(lambda: old not in [each.id for each in everything()])


async def test_a_kernel_that_dies_is_replaced_by_one_that_waits(
    warm_pool: OpenPool, docker_client: docker.DockerClient
):
    """By jupyter_client's restarter, under the same id."""
    pool = await warm_pool(restart_mode="recreate")
    kernel = await pool.start(manager_class=AsyncIOLoopKernelManager)
    await pool.full()
    (waiting,) = pool.waiting
    restarted = asyncio.Event()
    kernel.manager.add_restart_callback(restarted.set)
    kernel.client.execute("import os; os._exit(3)")
    await asyncio.wait_for(restarted.wait(), 60)
    while await kernel.provisioner.poll() is not None:
        await asyncio.sleep(0.05)
    kernel.reconnect()
    await kernel.ready()
    assert kernel.container_id == waiting.container_id
    assert is_warm(kernel, docker_client)


async def test_a_restart_in_place_leaves_alone_what_waits(
    warm_pool: OpenPool, docker_client: docker.DockerClient
):
    pool = await warm_pool()
    kernel = await pool.start()
    container = kernel.container_id
    await pool.full()
    waiting = pool.waiting
    await kernel.restart()
    assert kernel.container_id == container
    assert pool.waiting == waiting


async def test_nobody_has_to_ask_what_it_is(warm_pool: OpenPool):
    pool = await warm_pool()
    kernel = await pool.start()
    reply = await kernel.client.kernel_info(reply=True, timeout=20)
    told = kernel.manager.provisioner.kernel_info
    assert {**told, "banner": ""} == {**reply["content"], "banner": ""}  # it has a tip by chance


async def test_the_first_front_end_is_not_kept_waiting_for_room(warm_pool: OpenPool):
    """For a process with threads Linux takes 10 ms to make room for more than 64 open files."""
    pool = await warm_pool()
    kernel = await pool.start()
    room = r"import re; int(re.search(r'FDSize:\s*(\d+)', open('/proc/self/status').read())[1])"
    assert int(await kernel.run(room)) >= 512  # by itself it would be 256 now


async def test_another_folder_starts_cold(
    warm_pool: OpenPool, docker_client: docker.DockerClient, folder: Path
):
    pool = await warm_pool()
    waiting = pool.waiting
    (folder / "below").mkdir()
    kernel = await pool.start(cwd=str(folder / "below"))
    assert not is_warm(kernel, docker_client)
    assert await kernel.run("import os; os.getcwd()") == repr(str(folder / "below"))
    assert pool.waiting == waiting


async def test_without_a_workspace_any_folder_will_do(
    warm_pool: OpenPool, docker_client: docker.DockerClient, folder: Path
):
    pool = await warm_pool(workspace="none")
    (folder / "below").mkdir()
    kernel = await pool.start(cwd=str(folder / "below"))
    assert is_warm(kernel, docker_client)
    assert await kernel.run("import os; os.getcwd()") == "'/home/kernel'"


async def test_encrypted_messages_start_cold(
    warm_pool: OpenPool, docker_client: docker.DockerClient
):
    """The keys would come too late. What waits is for those that ask for no encryption."""
    pool = await warm_pool()
    waiting = pool.waiting
    kernel = await pool.start(manager={"transport_encryption": "required"})
    assert not is_warm(kernel, docker_client)
    assert kernel.manager.get_connection_info()["curve_publickey"]
    assert await kernel.run("6 * 7") == "42"
    assert pool.waiting == waiting


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["python3", "-m", "bash_kernel", "-f", "{connection_file}"], "echo 42"),
        (["sh", "-c", 'exec python3 -m ipykernel_launcher -f "$0"', "{connection_file}"], "6 * 7"),
    ],
    ids=["bash", "wrapped"],
)
async def test_a_kernel_that_cannot_wait_starts_cold(
    warm_pool: OpenPool, docker_client: docker.DockerClient, argv: list[str], code: str
):
    pool = await warm_pool(image=IMAGE, argv=argv, full=False)
    with pytest.raises(ConfigurationError, match="can wait"):
        await pool.full()
    kernel = await pool.start()
    assert not is_warm(kernel, docker_client)
    assert (await kernel.run(code)).strip() == "42"


@pytest.mark.parametrize(
    ("stanza", "record"),
    [({}, "there"), ({}, "lost"), (TCP, "lost")],
    ids=["ipc", "ipc-lost", "tcp-lost"],
)
async def test_a_kept_kernel_is_taken_over_whole(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    start_owner: StartOwner,
    successor: Successor,
    folder: Path,
    runtime_dir: Path,
    stanza: dict[str, Any],
    record: str,
):
    """F4, F5: its container's labels are older than it and say nothing of it."""
    pool = await warm_pool(on_server_exit="keep", **stanza)
    (waiting,) = pool.waiting
    owner = start_owner()
    await pool.close()
    owner.die()
    if record == "lost":
        RecordStore().path(owner.kernel_id).unlink()

    kernel = await successor.adopt(owner.kernel_id)
    assert kernel.container_id == waiting.container_id
    assert is_warm(kernel, docker_client)
    await kernel.ready()
    assert await kernel.run("x") == "1"
    assert kernel.provisioner.resolve_path(".") == str(folder)
    await assert_controlled(kernel)

    kernel.client.stop_channels()
    await successor.managers.shutdown_kernel(owner.kernel_id)
    assert left_below(runtime_dir) == []
