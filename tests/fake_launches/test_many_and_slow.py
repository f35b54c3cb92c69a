"""The event loop never waits for the engine, and the engine is not asked more than it must."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable

import pytest

from container_provisioner.errors import KernelDied

from .conftest import Launches

PATIENCE = 10.0  # seconds that an engine call waits for the event loop to turn
TURNS = 3


class Ticker:
    """Counts the turns of the event loop."""

    async def __aenter__(self) -> Ticker:
        self.stalled = False  # whether a call was made during which the loop did not turn
        self._turns, self._turned = 0.0, threading.Condition()
        self._task = asyncio.create_task(self._tick())
        return self

    async def _tick(self) -> None:
        while True:
            with self._turned:
                self._turns += 1
                self._turned.notify_all()
            await asyncio.sleep(0.01)

    def await_turns(self) -> None:
        """A hook of the engine's: its call takes until the loop has turned."""
        with self._turned:
            until = self._turns + TURNS
            if not self.stalled and not self._turned.wait_for(
                lambda: self._turns >= until, PATIENCE
            ):
                self.stalled = True

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        with self._turned:
            self._turns = math.inf
            self._turned.notify_all()


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
    """F20: each call takes until the loop has turned; one that is made on the loop takes too long,
    and so does one that the loop waits for."""
    async with Ticker() as ticker:
        launches.fake.before["*"] = ticker.await_turns
        await part(launches)
        launches.fake.before.clear()
    assert launches.left() == []
    assert launches.fake.calls["create"]
    assert not ticker.stalled


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
