"""Many starts at once in one process: does its event loop still answer meanwhile?"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import quantiles
from time import perf_counter

from kernels import Kernel
from place import Column, Place
from pool import Pool
from report import Measure
from rounds import PAUSE
from running import process, say

TICK = 0.005  # seconds

MEASURES = (
    Measure("all", "lag", "until all have answered, s", lambda s: s, 2),
    Measure("worst", "lag", "worst lag of the event loop, ms", lambda s: s * 1e3, 1),
    Measure("p99", "lag", "its 99th percentile, ms", lambda s: s * 1e3, 1),
    Measure("beside", "lag", "worst lag of a process beside, ms", lambda s: s * 1e3, 1),
)

# Does nothing but tick, so what it is late is what the machine's load does to anybody.
BESIDE = f"""
import select, sys, time
worst, tick = 0.0, {TICK}
while True:
    before = time.perf_counter()
    if select.select([sys.stdin], [], [], tick)[0]:
        break
    worst = max(worst, time.perf_counter() - before - tick)
print(worst)
"""


async def ticks(lags: list[float]) -> None:
    """How late the loop comes back to a task that sleeps for a tick."""
    while True:
        before = perf_counter()
        await asyncio.sleep(TICK)
        lags.append(perf_counter() - before - TICK)


@asynccontextmanager
async def bystander() -> AsyncIterator[list[float]]:
    """At the end there is one figure in the list: the worst lag of a process of its own."""
    found: list[float] = []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    async with process(sys.executable, "-c", BESIDE, **pipes) as beside:
        await asyncio.sleep(PAUSE)  # it has started
        yield found
        output, _ = await beside.communicate(b"end\n")
        found.append(float(output))


async def starts(column: Column, place: Place, number: int, pool: Pool | None) -> dict[str, float]:
    """Start so many kernels at once and wait until each has answered."""
    if pool is not None:
        await pool.settled()
        pool.hold()
    claims = pool.claims if pool is not None else 0
    lags: list[float] = []
    async with AsyncExitStack() as stack:
        kernels = [await stack.enter_async_context(Kernel(column, place)) for _ in range(number)]
        async with bystander() as beside:
            ticking = asyncio.create_task(ticks(lags))
            begin = perf_counter()
            try:
                await asyncio.gather(*(kernel.start() for kernel in kernels))
                seconds = perf_counter() - begin
            finally:
                ticking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ticking
        if pool is not None:
            for kernel in kernels:
                await pool.check(kernel.kernel_id)
        await asyncio.gather(*(kernel.shutdown() for kernel in kernels))
    if pool is not None:
        pool.go_on(taken=pool.claims > claims)
    p99 = quantiles(lags, n=100, method="inclusive")[-1]
    return {"all": seconds, "worst": max(lags), "p99": p99, "beside": beside[0]}


async def measure(
    columns: list[Column], place: Place, rounds: int, number: int, pools: dict[str, Pool]
) -> dict[str, dict[str, list[list[float]]]]:
    samples: dict[str, dict[str, list[list[float]]]] = {
        m.key: {column.name: [] for column in columns} for m in MEASURES
    }
    for n in range(rounds + 1):
        say(f"{number} starts at once: round {n} of {rounds}" if n else "warming up")
        for column in columns[:: 1 if n % 2 else -1]:
            found = await starts(column, place, number if n else 2, pools.get(column.name))
            if n:
                for key, seconds in found.items():
                    samples[key][column.name].append([seconds])
    return samples
