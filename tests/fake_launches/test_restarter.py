"""jupyter_client's own restarter with kernels that start slowly, die soon, or cannot start."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from jupyter_client.ioloop import AsyncIOLoopKernelManager, AsyncIOLoopKernelRestarter
from jupyter_client.ioloop import restarter as restarter_module

from container_provisioner import launcher

from ..fake_container import FakeContainer, Gate, open_sockets
from .conftest import Launches, until


class Clock:
    """Goes on only when it is told to; stands for the module ``time``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        module = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr(restarter_module, "time", module)
        monkeypatch.setattr(launcher, "time", module)


async def watched(launches: Launches, **stanza: object) -> AsyncIOLoopKernelManager:
    """A kernel whose restarter looks only when a test calls its `poll`."""
    manager = await launches.start(kind=AsyncIOLoopKernelManager, **stanza)
    manager._restarter.stop()
    manager._restarter.time_to_dead = 3600.0
    assert type(manager._restarter) is AsyncIOLoopKernelRestarter
    return manager


def died(manager: AsyncIOLoopKernelManager) -> bool:
    return manager.provisioner._status is not None


async def test_a_kernel_that_always_dies_early_is_given_up(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
):
    """F28: it takes 20 s to start and dies 8 s later; that is not a stable start.

    The restarter counts the 10 s of a stable start from the death before. Without the time that
    the launch took, it would see a kernel alive for 20 s, and begin to count anew each time.
    """
    clock = Clock(monkeypatch)
    started_at = 0.0

    def starts_slowly(container: FakeContainer) -> None:
        nonlocal started_at
        clock.now += 20
        started_at = clock.now
        open_sockets(container)

    launches.fake.on_start = starts_slowly
    manager = await watched(launches)
    given_up: list[float] = []
    manager._restarter.add_callback(lambda: given_up.append(clock.now), "dead")
    while not given_up and launches.fake.calls["start"] < 20:
        clock.now += 3  # as it looks in real life
        if clock.now - started_at >= 8 and not died(manager):
            launches.fake.signal(launches.container(manager).id, 9)
            await until(lambda: died(manager))
        await manager._restarter.poll()
    limit = manager._restarter.restart_limit
    assert given_up
    assert launches.fake.calls["start"] == 1 + limit
    assert launches.fake.calls["create"] == 1


async def test_a_kernel_that_lives_long_enough_is_restarted_for_ever(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
):
    """F28, the other way round: the count begins anew."""
    clock = Clock(monkeypatch)
    manager = await watched(launches)
    limit = manager._restarter.restart_limit
    for _ in range(limit + 2):
        for _ in range(5):
            clock.now += 3
            await manager._restarter.poll()
        launches.fake.signal(launches.container(manager).id, 9)
        await until(lambda: died(manager))
        await manager._restarter.poll()
        assert await manager.is_alive()
    assert launches.fake.calls["start"] == 1 + limit + 2


async def test_a_kernel_that_cannot_start_again_is_given_up(launches: Launches):
    """F28: each failure is the next death. None is raised into the restarter's timer."""
    manager = await watched(launches, pull_policy="never", restart_mode="recreate")
    given_up: list[int] = []
    manager._restarter.add_callback(lambda: given_up.append(1), "dead")
    launches.fake.images.clear()
    launches.fake.signal(launches.container(manager).id, 9)
    await until(lambda: died(manager))
    looks = 0
    while not given_up and looks < 20:
        await manager._restarter.poll()
        looks += 1
    assert given_up
    assert looks == manager._restarter.restart_limit + 1
    assert "Image 'kernel:1' is not present" in manager.provisioner.reason
    assert launches.left() == []


async def test_a_slow_start_is_not_mistaken_for_a_death(launches: Launches):
    """F28: the restarter's own timer looks a dozen times while the launch takes; one launch."""
    manager = await watched(launches)
    manager._restarter.time_to_dead = 0.05
    manager._restarter.start()
    launches.fake.before["start"] = lambda: time.sleep(0.6)
    launches.fake.signal(launches.container(manager).id, 9)
    await until(lambda: launches.container(manager).state == "exited")
    await until(lambda: launches.container(manager).state == "running")
    await until(lambda: manager._restarter._pcallback is not None)  # it looks again
    await asyncio.sleep(0.3)
    assert await manager.is_alive()
    assert (launches.fake.calls["create"], launches.fake.calls["start"]) == (1, 2)


@pytest.mark.parametrize("verb", ["start", "inspect"])
async def test_a_shutdown_during_an_automatic_restart_is_the_end(launches: Launches, verb: str):
    """F27: the restart under way is not cancelled by the manager, and must not leave a kernel."""
    manager = await watched(launches)
    launches.fake.signal(launches.container(manager).id, 9)
    await until(lambda: died(manager))
    gate = launches.fake.before[verb] = Gate()
    restart = asyncio.create_task(manager._restarter.poll())
    await asyncio.to_thread(gate.reached.wait, 30)
    shutdown = asyncio.create_task(manager.shutdown_kernel(now=True))
    await asyncio.wait([shutdown], timeout=0.2)
    gate.release()
    await asyncio.wait([restart, shutdown])
    await until(lambda: launches.left() == [])
    assert not manager.has_kernel
    assert manager._restarter._pcallback is None, "it would start the kernel again"
