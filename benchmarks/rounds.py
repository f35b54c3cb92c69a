"""A round of measurements, in which every column takes its turn, and the samples of all rounds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import kernels
from kernels import Kernel
from place import Column, Place
from pool import pool, told
from report import Measure, Samples
from running import say, scratch

BLOCKS, BLOCK = 4, 50  # a round's round trips per kernel, the kernels taking turns by blocks
STREAMS = 5  # a round's stream cells per kernel
PAUSE = 0.3  # seconds before a start, restart or shutdown, so the one before has settled

MEASURES = (
    Measure("start", "start", "start to first reply, s", lambda s: s, 3),
    Measure("start_fine", "start", "the same, finely timed, s", lambda s: s, 3),
    Measure("reply", "roundtrip", "empty execute to reply, ms", lambda s: s * 1e3, 2),
    Measure("idle", "roundtrip", "empty execute to idle, ms", lambda s: s * 1e3, 2),
    Measure("stream", "stream", "stream output, MB/s", lambda s: kernels.STREAM_BYTES / s / 1e6, 1),
    Measure("restart", "restart", "restart to first reply, s", lambda s: s, 3),
    Measure("recreate", "restart", "restart in a new container, s", lambda s: s, 3),
    Measure("shutdown", "shutdown", "shutdown, s", lambda s: s, 3),
    Measure("shutdown_fine", "shutdown", "the same, finely timed, s", lambda s: s, 3),
)
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES))


@dataclass
class Results:
    """measure -> column -> one list of samples per round, in seconds."""

    wanted: frozenset[str]
    samples: dict[str, dict[str, list[list[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    inside: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def open_round(self, columns: Iterable[Column]) -> None:
        for measure in MEASURES:
            if measure.group in self.wanted:
                for column in columns:
                    self.samples[measure.key][column.name].append([])

    def add(self, key: str, kernel: Kernel, seconds: float) -> None:
        if key in self.samples:
            self.samples[key][kernel.column.name][-1].append(seconds)

    def merge(self, samples: Samples) -> None:
        """What another process measured in this round."""
        for key, by_column in samples.items():
            for column, rounds in by_column.items():
                self.samples[key][column] += [list(one) for one in rounds]


@asynccontextmanager
async def opened(columns: Sequence[Column], wanted: frozenset[str]) -> AsyncIterator[Place]:
    """The place with its pools, and nothing of either left."""
    async with scratch() as directory, AsyncExitStack() as stack:
        place = Place(directory, columns)
        stack.callback(place.close)
        for column in columns:
            if column.is_warm:
                for recreate in (False, True) if "restart" in wanted else (False,):
                    name = place.kernel_name(column, recreate=recreate)
                    size = column.config["warm_pool_size"]
                    place.pools[name] = await stack.enter_async_context(pool(name, size))
        yield place


async def run(columns: list[Column], rounds: int, wanted: frozenset[str]) -> Results:
    """The first round warms up (images, caches, bytecode) and is not counted.

    Every other round goes through the columns backwards, so each one follows every other equally
    often and a slow drift of the machine cancels out.
    """
    results = Results(wanted)
    async with opened(columns, wanted) as place:
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "warming up")
            target = results if number else Results(wanted)
            await one_round(columns[:: 1 if number % 2 else -1], place, target)
        if place.pools:
            results.notes.append(f"warm: {told(place.pools.values())}, the first round's included")
    return results


async def one_round(columns: Sequence[Column], place: Place, results: Results) -> None:
    results.open_round(columns)
    if results.wanted & {"start", "shutdown"}:
        for column in columns:
            async with Kernel(column, place, fine=True) as kernel:
                await settled(place)
                results.add("start_fine", kernel, await kernel.start())
                await settled(place)
                results.add("shutdown_fine", kernel, await kernel.shutdown())
    await with_all_alive(columns, place, results)
    if "restart" in results.wanted:
        for column in columns:
            async with Kernel(column, place, recreate=True) as kernel:
                await settled(place)
                await kernel.start()
                await settled(place)
                results.add("recreate", kernel, await kernel.restart())


async def with_all_alive(columns: Sequence[Column], place: Place, results: Results) -> None:
    """One kernel of every column is alive, and they take turns; one that waits is idle."""
    async with AsyncExitStack() as stack:
        alive = [await stack.enter_async_context(Kernel(column, place)) for column in columns]
        for kernel in alive:
            await settled(place)
            results.add("start", kernel, await kernel.start())
        await settled(place)
        for kernel in alive:
            results.inside[kernel.column.name] = await kernel.versions()
        if "roundtrip" in results.wanted:
            await round_trips(alive, results)
        if "stream" in results.wanted:
            for _ in range(STREAMS):
                for kernel in alive:
                    results.add("stream", kernel, await kernel.stream())
        if "restart" in results.wanted:
            for kernel in alive:
                await settled(place)
                results.add("restart", kernel, await kernel.restart())
        for kernel in alive:
            await settled(place)
            results.add("shutdown", kernel, await kernel.shutdown())


async def round_trips(alive: list[Kernel], results: Results) -> None:
    for kernel in alive:
        for _ in range(10):  # the first cells of a kernel still import things
            await kernel.round_trip()
    for _ in range(BLOCKS):
        for kernel in alive:
            for _ in range(BLOCK):
                reply, idle = await kernel.round_trip()
                results.add("reply", kernel, reply)
                results.add("idle", kernel, idle)


async def settled(place: Place) -> None:
    await place.settled()
    await asyncio.sleep(PAUSE)
