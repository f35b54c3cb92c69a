"""Restart and cleanup, as the framework really calls them."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_client.localinterfaces import is_local_ip
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from container_provisioner.connection import TCP_PORTS
from container_provisioner.errors import EngineUnavailable, KernelDied
from container_provisioner.spec import ContainerSpec
from container_provisioner.store import KernelDirectory, RecordStore
from container_provisioner.transports import NetworkTransport

from ..fake_container import failing, open_sockets
from .conftest import IMAGE, Launches


async def listens(self: NetworkTransport, endpoint: object) -> None:
    """At once."""


async def test_an_address_that_is_not_local_survives_restarts(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
):
    """F1: the manager holds the container's address, which LocalProvisioner would refuse."""
    monkeypatch.setattr(NetworkTransport, "until_listening", listens)
    assert not is_local_ip(launches.fake.address)
    manager = await launches.start(
        network="bridge", transport="network", traits={"shutdown_wait_time": 0.5}
    )
    for number in range(3):
        for now in (True, False):
            launches.fake.address = f"172.17.0.{10 + number}"  # another one after each start
            await manager.restart_kernel(now=now)
            info = manager.get_connection_info()
            assert {name: info[name] for name in ("transport", "ip", *TCP_PORTS)} == {
                "transport": "tcp",
                "ip": launches.fake.address,
                **TCP_PORTS,
            }
            client = manager.client()
            assert (client.ip, client.shell_port) == (info["ip"], info["shell_port"])
            assert await manager.is_alive()


class ForgetsRestart(AsyncKernelManager):
    """Never says that a restart is coming, where the framework may or may not (F2)."""

    async def _async_kill_kernel(self, restart: bool = False) -> None:
        await super()._async_kill_kernel(restart=False)

    async def _async_send_kernel_sigterm(self, restart: bool = False) -> None:
        await super()._async_send_kernel_sigterm(restart=False)

    async def _async_request_shutdown(self, restart: bool = False) -> None:
        await super()._async_request_shutdown(restart=False)


@pytest.mark.parametrize("now", [True, False])
async def test_only_the_cleanup_removes(launches: Launches, now: bool):
    """F2: kill and terminate say restart=False also when a restart follows."""
    traits = {"shutdown_wait_time": 1.0}
    manager = await launches.start(kind=ForgetsRestart, traits=traits)
    before = launches.container(manager)
    await manager.restart_kernel(now=now)
    assert launches.container(manager) is before
    assert launches.fake.calls["remove"] == 0
    assert launches.fake.calls["create"] == 1
    await manager.shutdown_kernel(now=now)
    assert launches.fake.calls["remove"] == 1
    assert launches.left() == []


async def test_recreate_replaces_the_container_at_every_restart(launches: Launches):
    manager = await launches.start(restart_mode="recreate")
    first = launches.container(manager)
    await manager.restart_kernel(now=True)
    assert launches.container(manager) is not first
    assert len(launches.fake.containers) == 1


async def test_changed_settings_replace_the_container(launches: Launches):
    manager = await launches.start()
    first = launches.container(manager)
    manager.provisioner.memory_limit = "1g"
    await manager.restart_kernel(now=True)
    assert launches.container(manager) is not first
    assert launches.container(manager).spec.limits.memory == 1024**3
    assert len(launches.fake.containers) == 1


def foreign_things(launches: Launches, kernel_id: str) -> tuple[str, Path, Path]:
    """A container, a directory and a record that are of other kernels."""
    container = launches.fake.create(ContainerSpec(name="foreign", image=IMAGE, argv=("true",)))
    directory = KernelDirectory.of("another kernel").path
    directory.mkdir()
    RecordStore().write("another kernel", {})
    return container, directory, RecordStore().path("another kernel")


async def test_cleanup_at_any_time_and_any_number(launches: Launches):
    """F3: before the launch, after a failed one, twice after the last: only its own goes."""
    manager = launches.manager()
    container, directory, record = foreign_things(launches, manager.kernel_id)
    manager.provisioner = KernelProvisionerFactory.instance().create_provisioner_instance(
        manager.kernel_id, manager.kernel_spec, parent=manager
    )
    for restart in (True, False, False):
        await manager.provisioner.cleanup(restart=restart)

    launches.fake.images.clear()
    with pytest.raises(RuntimeError):
        await manager.start_kernel(cwd=str(launches.folder))
    for restart in (True, False, False):
        await manager.provisioner.cleanup(restart=restart)

    launches.fake.add_image(IMAGE, user="1000:1000")
    await manager.start_kernel(cwd=str(launches.folder))
    assert await manager.is_alive()
    for restart in (True, False, False):
        await manager.provisioner.cleanup(restart=restart)
    assert not manager.has_kernel

    assert list(launches.fake.containers) == [container]
    assert directory.exists()
    assert record.exists()
    launches.fake.remove(container)
    directory.rmdir()
    record.unlink()


@pytest.mark.parametrize("mode", ["in-place", "recreate"])
async def test_a_restart_that_fails_leaves_nothing_and_a_later_start_works(
    launches: Launches, mode: str
):
    """F3, F27: of the run before neither."""
    manager = await launches.start(restart_mode=mode)
    launches.fake.on_start = lambda container: launches.fake.signal(container.id, 9)
    with pytest.raises(KernelDied, match="SIGKILL"):
        await manager.restart_kernel(now=True)
    assert launches.left() == []
    launches.fake.on_start = open_sockets
    await manager.start_kernel(cwd=str(launches.folder))
    assert await manager.is_alive()


async def test_an_engine_that_does_not_answer_does_not_keep_the_manager_from_closing(
    launches: Launches, caplog: pytest.LogCaptureFixture
):
    """An interrupt says so; a shutdown goes on, and leaves the guard what it needs for the rest."""
    manager = await launches.start()
    launches.fake.before["*"] = failing(EngineUnavailable("read timed out"))
    with pytest.raises(EngineUnavailable):
        await manager.interrupt_kernel()
    assert await manager.is_alive()
    await manager.shutdown_kernel(now=True)
    assert not manager.has_kernel
    assert "its container is left to the guard: read timed out" in caplog.text
    launches.fake.before.clear()
    records, directory = RecordStore(), KernelDirectory.of(manager.kernel_id)
    name = f"jupyter-kernel-{manager.kernel_id}"
    paths = [directory.path, records.path(manager.kernel_id)]
    assert launches.left() == [name, *sorted(map(str, paths))]
    launches.fake.remove(name)
    records.remove(manager.kernel_id)
    directory.remove()
