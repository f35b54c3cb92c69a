"""`start_kernel` with the id of a kernel whose owner has died takes that kernel over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.multikernelmanager import MultiKernelManager

from container_provisioner.store import runtime_folder

from .conftest import WriteKernelspec
from .ends import end_of, left_below
from .owners import StartOwner, assert_controlled, start_owner_fixture  # noqa: F401 - a fixture
from .successor import Successor, successor_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

TCP = {"profile": "dev", "transport": "tcp"}
CURVE = {"transport_encryption": "required"}
COUNT = "import time\nfor n in range(10**6): print(n, flush=True); time.sleep(0.1)"


@pytest.mark.parametrize(
    ("stanza", "manager"),
    [({}, {}), (TCP, {}), ({}, CURVE), (TCP, CURVE)],
    ids=["ipc", "tcp", "ipc-curve", "tcp-curve"],
)
async def test_a_kernel_is_taken_over_whole(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    successor: Successor,
    folder: Path,
    runtime_dir: Path,
    stanza: dict[str, Any],
    manager: dict[str, Any],
) -> None:
    """F4, F5: with the keys of the first process, which the second one knows nothing of."""
    kernelspec(**stanza, on_server_exit="keep")
    owner = start_owner(manager=manager)
    kernel_id, container = owner.kernel_id, owner.container
    owner.die()

    kernel = await successor.adopt(kernel_id)
    assert await kernel.manager.is_alive()
    assert (kernel.manager.kernel_id, kernel.container_id) == (kernel_id, container.id)
    assert (kernel.manager.curve_secretkey is not None) == bool(manager)
    await kernel.ready()
    assert await kernel.run("x") == "1"
    assert kernel.provisioner.resolve_path(".") == str(folder)

    await assert_controlled(kernel)
    assert (kernel.manager.kernel_id, kernel.container_id) == (kernel_id, container.id)
    assert kernel.provisioner.resolve_path(".") == str(folder)

    kernel.client.stop_channels()
    await successor.managers.shutdown_kernel(kernel_id)
    assert owner.container is None
    assert left_below(runtime_dir) == []


def test_a_blocking_manager_adopts_as_well(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    """F4"""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    container = owner.container
    owner.die()

    managers = MultiKernelManager(connection_dir=str(runtime_folder()))
    managers.start_kernel(kernel_id=owner.kernel_id, kernel_name="contained")
    manager: Any = managers.get_kernel(owner.kernel_id)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        reply = client.execute_interactive(
            "assert x == 1", timeout=30, output_hook=lambda message: None
        )
        assert reply["content"]["status"] == "ok"
        assert manager.is_alive()
        assert owner.container.id == container.id
    finally:
        client.stop_channels()
        managers.shutdown_all(now=True)
    assert owner.container is None
    assert left_below(runtime_dir) == []


async def test_a_running_cell_goes_on_and_can_be_interrupted(
    kernelspec: WriteKernelspec, start_owner: StartOwner, successor: Successor
) -> None:
    """F4, F30: busy stays busy."""
    kernelspec(on_server_exit="keep")
    owner = start_owner(code=COUNT)
    owner.die()

    kernel = await successor.adopt(owner.kernel_id)
    assert kernel.provisioner.was_busy
    assert (await kernel.client.get_iopub_msg(timeout=30))["msg_type"] == "stream"
    await kernel.manager.interrupt_kernel()
    await kernel.ready()
    assert await kernel.run("(x, n < 10**6 - 1)") == "(1, True)"


async def test_the_next_death_of_an_adopted_kernel_is_noticed(
    kernelspec: WriteKernelspec, start_owner: StartOwner, successor: Successor
) -> None:
    """F30"""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.die()

    kernel = await successor.adopt(owner.kernel_id)
    kernel.manager.stop_restarter()
    await kernel.ready()
    kernel.client.execute("import os; os._exit(3)")
    assert await end_of(kernel) == 3
    assert "it ended with exit code 3" in kernel.provisioner.reason


async def test_an_adopted_kernel_that_dies_is_restarted(
    kernelspec: WriteKernelspec, start_owner: StartOwner, successor: Successor, folder: Path
) -> None:
    """F30: by jupyter_client's restarter, under the same id."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.die()
    successor.managers.kernel_manager_class = "jupyter_client.ioloop.AsyncIOLoopKernelManager"

    kernel = await successor.adopt(owner.kernel_id)
    await kernel.ready()
    container_id = kernel.container_id
    kernel.client.execute("import os; os._exit(3)")
    assert await end_of(kernel) == 3
    restarted = asyncio.Event()
    kernel.manager.add_restart_callback(restarted.set)
    await asyncio.wait_for(restarted.wait(), 60)
    while await kernel.provisioner.poll() is not None:
        await asyncio.sleep(0.05)
    kernel.reconnect()
    await kernel.ready()
    assert "NameError" in await kernel.run("x")
    assert (kernel.provisioner.kernel_id, kernel.container_id) == (owner.kernel_id, container_id)


async def test_a_kernel_that_ended_before_it_was_adopted_is_started_anew(
    kernelspec: WriteKernelspec, start_owner: StartOwner, successor: Successor
) -> None:
    """F12: the id is free again; what ended makes way."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.die()
    ended = owner.container
    ended.kill()

    kernel = await successor.adopt(owner.kernel_id)
    await kernel.ready()
    assert "NameError" in await kernel.run("x")
    assert owner.container.id == kernel.container_id != ended.id
