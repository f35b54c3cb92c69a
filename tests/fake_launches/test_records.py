"""The record of a kernel: what another process needs to take it over, and when it must not."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from container_provisioner import labels
from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.spec import ContainerSpec
from container_provisioner.store import RecordStore, own_lease

from .conftest import IMAGE, Launches

Info = dict[str, Any]


async def taken_over(launches: Launches, info: Info) -> AsyncKernelManager:
    """As another process would: a new manager and a new provisioner, with nothing but the info."""
    manager = launches.manager(kernel_id=info["kernel_id"])
    manager._attempted_start = True  # or it can be shut down once only
    manager.provisioner = KernelProvisionerFactory.instance().create_provisioner_instance(
        manager.kernel_id, manager.kernel_spec, parent=manager
    )
    await manager.provisioner.load_provisioner_info(info)
    manager._reconcile_connection_info(manager.provisioner.connection_info)
    return manager


async def started_elsewhere(launches: Launches, **kwargs: Any) -> AsyncKernelManager:
    """A kernel whose manager's process has ended, or will do nothing more."""
    manager = await launches.start(**kwargs)
    launches.managers.remove(manager)
    return manager


@pytest.mark.parametrize("encryption", ["disabled", "required"])
async def test_the_info_goes_through_json_and_back(launches: Launches, encryption: str):
    """F5: keys are bytes here and text there, and the manager compares them."""
    first = await started_elsewhere(launches, traits={"transport_encryption": encryption})
    info = json.loads(json.dumps(await first.provisioner.get_provisioner_info()))
    assert {**info, "owner": own_lease().id} == RecordStore().read(first.kernel_id)
    second = await taken_over(launches, info)
    assert second.get_connection_info() == first.get_connection_info()
    assert second.provisioner.connection_info == first.provisioner.connection_info
    assert ("curve_secretkey" in info["connection_info"]) == (encryption == "required")
    assert json.loads(json.dumps(await second.provisioner.get_provisioner_info())) == info
    assert await second.is_alive()
    await second.shutdown_kernel(now=True)
    assert launches.left() == []


def with_unknown_fields(info: Info) -> None:
    info["of a later version"] = info["container"]["too"] = {"a": 1}
    info["container"]["identity"]["and here"] = 1


def without_optional_fields(info: Info) -> None:
    for name in ("pid", "pgid", "ip"):
        del info[name]
    del info["started_at"], info["owner"]
    for name in info["container"].keys() - {"engine_url", "identity", "directory", "transport"}:
        del info["container"][name]
    for name in ("memory_limit", "argv", "on_server_exit"):
        del info["container"]["identity"][name]


@pytest.mark.parametrize("change", [with_unknown_fields, without_optional_fields])
async def test_a_record_of_another_version_is_understood(
    launches: Launches, change: Callable[[Info], None]
):
    """F5"""
    first = await started_elsewhere(launches)
    info = RecordStore().read(first.kernel_id)
    change(info)
    second = await taken_over(launches, info)
    assert await second.is_alive()
    await second.shutdown_kernel(now=True)
    assert launches.left() == []


async def test_a_dropped_manager_leaves_a_record_that_suffices(launches: Launches):
    """F6: the manager takes its connection file with it; the kernel lives, and so does ours."""
    manager = await started_elsewhere(launches)
    kernel_id, file = manager.kernel_id, Path(manager.connection_file)
    connection = manager.get_connection_info()
    assert file.exists()
    gone = weakref.ref(manager)
    del manager
    gc.collect()
    assert gone() is None
    assert not file.exists()
    second = await taken_over(launches, RecordStore().read(kernel_id))
    assert second.get_connection_info() == connection
    assert await second.is_alive()
    assert second.has_kernel


async def test_a_kernel_that_has_ended_loads_as_one(launches: Launches):
    """Ended, and removed: dead both times, and restarted or closed as any other."""
    first = await started_elsewhere(launches)
    info = RecordStore().read(first.kernel_id)
    launches.fake.signal(launches.container(first).id, 9)
    second = await taken_over(launches, info)
    assert await second.provisioner.wait() == 137
    launches.fake.remove(launches.container(first).id)
    third = await taken_over(launches, info)
    assert await third.provisioner.poll() == 1


# -- somebody else's ---------------------------------------------------------------------------


def copied(launches: Launches, of: AsyncKernelManager, **different: str) -> str:
    """A running container that carries another's labels but for some."""
    original = launches.container(of).spec.labels
    spec = ContainerSpec(
        name="copy", image=IMAGE, argv=("sleep", "300"), labels={**original, **different}
    )
    container = launches.fake.create(spec)
    launches.fake.start(container)
    return container


@pytest.mark.parametrize("label", [labels.KERNEL_ID, labels.LAUNCH_ID])
async def test_a_container_with_another_label_is_refused_and_stays(launches: Launches, label: str):
    """F32: the id fits, and the label says that it is another kernel's, or another launch's."""
    first = await launches.start()
    other = copied(launches, first, **{label: "another"})
    info = RecordStore().read(first.kernel_id)
    info["container"]["identity"]["container_id"] = other
    with pytest.raises(KernelNotAdoptable, match=f"{other[:12]}.*Nothing was changed"):
        await taken_over(launches, info)
    await launches.managers[-1].shutdown_kernel(now=True)
    assert launches.fake.named(other).runs
    assert await first.is_alive()
    launches.fake.remove(other)


async def test_of_two_candidates_only_the_one_described_is_touched(launches: Launches):
    """F32: labels can be copied; the engine's id cannot."""
    first = await started_elsewhere(launches)
    copy = copied(launches, first)
    second = await taken_over(launches, RecordStore().read(first.kernel_id))
    assert second.provisioner._container.identity.container_id == launches.container(first).id
    await second.shutdown_kernel(now=True)
    assert list(launches.fake.containers) == [copy]
    launches.fake.remove(copy)


def of_no_container(info: Info) -> None:
    del info["container"]


def of_two_kernels(info: Info) -> None:
    info["kernel_id"] = "another"


def without_launch(info: Info) -> None:
    del info["container"]["identity"]["launch_id"]


def without_key(info: Info) -> None:
    del info["connection_info"]["key"]


def of_another_directory(info: Info) -> None:
    info["container"]["directory"] = "/somewhere/else"


@pytest.mark.parametrize(
    "damage", [of_no_container, of_two_kernels, without_launch, without_key, of_another_directory]
)
async def test_a_damaged_record_is_refused_and_nothing_is_removed(
    launches: Launches, damage: Callable[[Info], None]
):
    """F32"""
    first = await launches.start()
    info = RecordStore().read(first.kernel_id)
    damage(info)
    before = launches.left()
    with pytest.raises(KernelNotAdoptable):
        await taken_over(launches, info)
    await launches.managers[-1].shutdown_kernel(now=True)
    assert launches.left() == before
    assert await first.is_alive()
