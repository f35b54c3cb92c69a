"""A record, loaded into another provisioner, gives full control; and what a dead owner leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.provisioner import ContainerProvisioner
from container_provisioner.store import RecordStore

from .conftest import Kernel, StartKernel, WriteKernelspec
from .ends import end_of, left_below
from .owners import StartOwner, assert_controlled, start_owner_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

TakeOver = Callable[[str], Awaitable[Kernel]]


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
        manager._launch_args = {}
        manager.load_connection_info(provisioner.connection_info)
        taken.append(Kernel(manager, manager.client()))
        taken[-1].client.start_channels()
        return taken[-1]

    yield load
    for kernel in taken:
        kernel.client.stop_channels()
        await kernel.manager.shutdown_kernel(now=True)


async def written(kernel: Kernel) -> dict[str, Any]:
    """What a record holds, through JSON."""
    info: dict[str, Any] = json.loads(json.dumps(await kernel.provisioner.get_provisioner_info()))
    return info


def newcomer(kernel: Kernel) -> ContainerProvisioner:
    """Another process's provisioner for the same kernel id, before it did anything."""
    return ContainerProvisioner(
        kernel_id=kernel.provisioner.kernel_id,
        kernel_spec=kernel.provisioner.kernel_spec,
        parent=KernelManager(),
    )


async def test_a_record_in_another_process_gives_control(
    kernelspec: WriteKernelspec, start_owner: StartOwner, take_over: TakeOver, runtime_dir: Path
) -> None:
    """F4: `load_provisioner_info`, without `start_kernel`."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    kernel_id, container = owner.kernel_id, owner.container
    owner.die()

    kernel = await take_over(kernel_id)
    assert kernel.manager.has_kernel
    assert await kernel.manager.is_alive()
    assert kernel.container_id == container.id
    await kernel.ready()
    assert await kernel.run("x") == "1"
    await assert_controlled(kernel)
    kernel.client.stop_channels()
    await kernel.manager.shutdown_kernel()
    assert not kernel.manager.has_kernel
    assert owner.container is None
    assert left_below(runtime_dir) == []


@pytest.mark.parametrize("how", ["kill", "remove"])
async def test_a_kernel_that_died_meanwhile_is_loaded_as_dead(
    kernelspec: WriteKernelspec, start_owner: StartOwner, take_over: TakeOver, how: str
) -> None:
    """F4, F12: neither alive for ever, nor an error; a restart gives a working kernel."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.die()
    container = owner.container
    container.kill() if how == "kill" else container.remove(force=True)
    kernel = await take_over(owner.kernel_id)
    assert await end_of(kernel) == {"kill": 137, "remove": 1}[how]
    assert not await kernel.manager.is_alive()
    await kernel.restart()
    assert await kernel.run("6 * 7") == "42"


async def test_a_round_trip_through_json_and_unknown_fields(start_kernel: StartKernel) -> None:
    """F4, F5"""
    kernel = await start_kernel()
    second = newcomer(kernel)
    await second.load_provisioner_info({**await written(kernel), "later": {"version": 9}})
    assert (second.has_process, await second.poll()) == (True, None)
    assert second.connection_info == kernel.provisioner.connection_info
    assert second.resolve_path(".") == kernel.provisioner.resolve_path(".")
    await second.kill()
    assert await second.wait() == 137


async def test_a_container_that_is_not_the_kernels_is_not_loaded(
    start_kernel: StartKernel, docker_client: docker.DockerClient
) -> None:
    """F32: the id is right, and the labels are those of somebody else."""
    kernel, other = await start_kernel(), await start_kernel()
    info = await written(kernel)
    identity = info["container"]["identity"]
    for wrong in (
        {"launch_id": "another"},
        {"container_id": other.container_id},
        {"container_id": identity["container_name"]},
    ):
        forged = {**info["container"], "identity": {**identity, **wrong}}
        second = newcomer(kernel)
        with pytest.raises(KernelNotAdoptable, match="Nothing was changed"):
            await second.load_provisioner_info({**info, "container": forged})
        await second.cleanup()
        assert not second.has_process
    assert docker_client.containers.get(other.container_id).status == "running"
    assert await kernel.run("1 + 1") == "2"


def test_a_kernel_that_is_not_kept_ends_with_its_owner(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    """A script that did not shut it down: it is gone when the script has ended."""
    kernelspec()
    owner = start_owner()
    owner.end()
    assert owner.container is None
    assert left_below(runtime_dir) == []


async def test_an_independent_kernel_outlives_its_process(
    kernelspec: WriteKernelspec, start_owner: StartOwner, take_over: TakeOver
) -> None:
    """F6: the manager's connection file goes with the manager; the record is sufficient."""
    kernelspec()
    owner = start_owner(independent=True)
    owner.end()
    kernel = await take_over(owner.kernel_id)
    await kernel.ready()
    assert await kernel.run("x") == "1"
