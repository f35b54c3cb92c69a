"""Compares kernels in containers with local ones: `make bench`, or `python benchmarks/bench.py`.

See README.md beside this file for what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import kernels
import report
from kernels import Kernel
from place import Column, Place, ProvisionerMissingError
from report import Measure

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

    def open_round(self, columns: Iterable[Column]) -> None:
        for measure in MEASURES:
            if measure.group in self.wanted:
                for column in columns:
                    self.samples[measure.key][column.name].append([])

    def add(self, key: str, kernel: Kernel, seconds: float) -> None:
        if key in self.samples:
            self.samples[key][kernel.column.name][-1].append(seconds)


async def one_round(columns: list[Column], place: Place, results: Results) -> None:
    results.open_round(columns)
    if results.wanted & {"start", "shutdown"}:
        for column in columns:
            await asyncio.sleep(PAUSE)
            async with Kernel(column, place, fine=True) as kernel:
                results.add("start_fine", kernel, await kernel.start())
                await asyncio.sleep(PAUSE)
                results.add("shutdown_fine", kernel, await kernel.shutdown())

    # From here on one kernel of every column is alive, and they take turns; a kernel that waits
    # for its turn is idle.
    async with AsyncExitStack() as stack:
        alive = [await stack.enter_async_context(Kernel(column, place)) for column in columns]
        for kernel in alive:
            await asyncio.sleep(PAUSE)
            results.add("start", kernel, await kernel.start())
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
                await asyncio.sleep(PAUSE)
                results.add("restart", kernel, await kernel.restart())
        for kernel in alive:
            await asyncio.sleep(PAUSE)
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


async def run(columns: list[Column], rounds: int, wanted: frozenset[str]) -> Results:
    """The first round warms up (images, caches, bytecode) and is not counted.

    Every other round goes through the columns backwards, so each one follows every other equally
    often and a slow drift of the machine cancels out.
    """
    stopping = cancel_on_signals()
    results = Results(wanted)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        place = Place(Path(directory), columns)
        try:
            for number in range(rounds + 1):
                if stopping.is_set():
                    raise asyncio.CancelledError
                print(
                    f"round {number} of {rounds}" if number else "warming up",
                    file=sys.stderr,
                    flush=True,
                )
                target = results if number else Results(wanted)
                await one_round(columns[:: 1 if number % 2 else -1], place, target)
        finally:
            place.close()
    return results


def cancel_on_signals() -> asyncio.Event:
    """Ctrl-C and SIGTERM cancel the run, once; a second one must not cut the cleaning short."""
    loop, task, stopping = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def stop() -> None:
        if not stopping.is_set() and task is not None:
            print("Interrupted; removing the kernels.", file=sys.stderr)
            stopping.set()
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)
    return stopping


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="bench.py")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default: 7)")
    parser.add_argument(
        "--only",
        action="append",
        choices=GROUPS,
        help="only this measure; may be given several times (default: all)",
    )
    parser.add_argument("--image", help="a further column: kernels in this image")
    parser.add_argument(
        "--no-ipc", action="store_true", help="without the column of local kernels over ipc"
    )
    parser.add_argument(
        "--noise",
        action="store_true",
        help="local kernels in the container's columns too: what chance alone makes of the ratios",
    )
    parser.add_argument("--markdown", action="store_true", help="print a table for a README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


def chosen_columns(arguments: argparse.Namespace) -> list[Column]:
    local = "local-provisioner"
    ours = local if arguments.noise else "container-provisioner"
    columns = [Column(name="local", provisioner=local)]
    if not arguments.no_ipc:
        columns.append(Column(name="local ipc", provisioner=local, transport="ipc"))
    columns.append(Column(name="local again" if arguments.noise else "container", provisioner=ours))
    if arguments.image and not arguments.noise:
        stanza = {"image": arguments.image}
        columns.append(Column(name="image", provisioner=ours, config=stanza))
    return columns


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    columns = chosen_columns(arguments)
    try:
        results = asyncio.run(run(columns, arguments.rounds, frozenset(arguments.only or GROUPS)))
    except asyncio.CancelledError:
        return 130
    except ProvisionerMissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    names = [column.name for column in columns]
    told = report.facts(arguments.rounds, results.inside)
    table = report.rows(results.samples, MEASURES, names)
    if arguments.markdown:
        print(report.markdown(table), "", *told, sep="\n")
    else:
        print(report.plain(table), "", *told, sep="\n")
    if arguments.json:
        arguments.json.write_text(report.as_json(results.samples, MEASURES, names, told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
