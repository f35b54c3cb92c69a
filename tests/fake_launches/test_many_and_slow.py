"""The event loop never waits for the engine, and the engine is not asked more than it must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from container_provisioner.errors import KernelDied

from .conftest import Launches

ENGINE_SECONDS = 0.8
TICK_SECONDS = 0.05


class Ticker:
    """Notes the longest time between two ticks of the event loop."""

    async def __aenter__(self) -> Ticker:
        self.longest = 0.0
        self._task = asyncio.create_task(self._tick())
        return self

    async def _tick(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()


async def a_whole_life(launches: Launches) -> None:
    manager = await launches.start(restart_mode="recreate")
    await manager.interrupt_kernel()
    assert await manager.is_alive()
    await manager.restart_kernel(now=True)
    await manager.shutdown_kernel(now=True)


async def a_start_that_fails(launches: Launches) -> None:
    launches.fake.on_start = lambda container: None
    with pytest.raises(KernelDied):
        await launches.start(argv=["sh", "-c", "sleep 0.5; exit 3"])


@pytest.mark.parametrize("part", [a_whole_life, a_start_that_fails])
async def test_a_slow_engine_does_not_hold_up_the_loop(
    launches: Launches, part: Callable[[Launches], Awaitable[None]]
):
    """F20: each call takes 0.8 s. On an idle machine no tick is 0.1 s late; a single call on
    the loop would make one 0.8 s late."""
    launches.fake.before["*"] = lambda: time.sleep(ENGINE_SECONDS)
    async with Ticker() as ticker:
        await part(launches)
    assert launches.left() == []
    assert launches.fake.calls["create"]
    assert ticker.longest < ENGINE_SECONDS / 2


async def test_fifty_kernels_shut_down_together_cost_one_look_each(launches: Launches):
    """F40: the manager asks each of them ten times in a second whether it has ended."""
    managers = await asyncio.gather(
        *(launches.start(traits={"shutdown_wait_time": 2.0}) for _ in range(50))
    )
    launches.fake.calls.clear()
    # Not now=True: they ignore the interrupt, and nobody reads their shutdown message.
    await asyncio.gather(*(manager.shutdown_kernel() for manager in managers))
    assert launches.left() == []
    assert launches.fake.calls["remove"] == 50
    assert launches.fake.calls["inspect"] <= 2 * 50
    assert launches.fake.calls["list_containers"] <= 2
