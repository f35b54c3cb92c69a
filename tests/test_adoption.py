"""A second provisioner takes over a running kernel, and refuses what is not that kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager, KernelManager

from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.provisioner import ContainerProvisioner
from container_provisioner.store import RecordStore

from .conftest import Kernel, StartKernel

pytestmark = pytest.mark.docker


async def written(kernel: Kernel) -> dict[str, Any]:
    """What a record holds."""
    info: dict[str, Any] = json.loads(json.dumps(await kernel.provisioner.get_provisioner_info()))
    return info


def newcomer(kernel: Kernel) -> ContainerProvisioner:
    """Another process's provisioner for the same kernel id, before it did anything."""
    return ContainerProvisioner(
        kernel_id=kernel.provisioner.kernel_id,
        kernel_spec=kernel.provisioner.kernel_spec,
        parent=KernelManager(),
    )


async def assert_unharmed(kernel: Kernel) -> None:
    """A new client reaches it, and its record is there."""
    kernel.reconnect()
    await kernel.ready()
    assert await kernel.run("1 + 1") == "2"
    kernel_id = kernel.provisioner.kernel_id
    assert RecordStore().read(kernel_id) == await written(kernel)


async def test_a_kernel_can_be_controlled_by_another_provisioner(start_kernel: StartKernel) -> None:
    """F4, F5: alive, not dead; told apart by its labels; unknown fields do not matter."""
    kernel = await start_kernel()
    second = newcomer(kernel)
    await second.load_provisioner_info({**await written(kernel), "later": {"version": 9}})
    assert (second.has_process, await second.poll()) == (True, None)
    assert second.connection_info == kernel.provisioner.connection_info
    assert second.resolve_path(".") == kernel.provisioner.resolve_path(".")
    await second.kill()
    assert await second.wait() == 137


async def test_a_container_that_is_not_the_kernels_is_left_alone(
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
    await assert_unharmed(kernel)


async def test_a_second_start_of_a_running_kernel_is_refused_and_changes_nothing(
    start_kernel: StartKernel,
) -> None:
    """F3, F32: not its sockets, not its record, and not at the clean-up either."""
    kernel = await start_kernel()
    second = AsyncKernelManager(
        kernel_name=kernel.manager.kernel_name, kernel_id=kernel.provisioner.kernel_id
    )
    with pytest.raises(KernelNotAdoptable, match="runs already"):
        await second.start_kernel()
    await second.cleanup_resources()
    assert second.provisioner is not None
    await second.provisioner.cleanup()
    await assert_unharmed(kernel)


async def test_a_container_that_is_gone_is_a_kernel_that_has_ended(
    start_kernel: StartKernel,
    docker_client: docker.DockerClient,
    our_containers: Callable[[], list[str]],
) -> None:
    """F12"""
    kernel = await start_kernel()
    info = await written(kernel)
    docker_client.containers.get(kernel.container_id).remove(force=True)
    second = newcomer(kernel)
    await second.load_provisioner_info(info)
    assert (second.has_process, await second.poll(), await second.wait()) == (True, 1, 1)
    await second.cleanup()
    assert info["container"]["identity"]["container_name"] not in our_containers()
