"""Kernels behind a Jupyter Server: from `POST /api/kernels` to the first reply by websocket.

One server process has them all; a local kernel, one in a new container and one from the pool take
turns. This is what a front end waits for when a notebook is opened.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from time import perf_counter

import report
import running
from place import LOCAL, OURS, Column, Place, warm_column
from pool import told
from report import Measure, Samples
from rounds import PAUSE, opened
from served import Server, jupyter_server

NOT_KEPT_HERE = "--ContainerKernels.warm_limit=0"  # but by a process of its own

MEASURES = (
    Measure("reply", "start", "POST to first websocket reply, s", lambda s: s, 3),
    Measure("post", "start", "of it POST /api/kernels, s", lambda s: s, 3),
    Measure("delete", "shutdown", "DELETE /api/kernels/ID, s", lambda s: s, 3),
)

Round = dict[str, dict[str, list[float]]]


async def one_kernel(server: Server, column: Column, place: Place, found: Round) -> None:
    name = place.kernel_name(column)
    pool = place.pools.get(name)
    await place.settled()
    await asyncio.sleep(PAUSE)
    if pool is not None:
        pool.taken_from()
    begin = perf_counter()
    kernel_id = await server.start(name)
    posted = perf_counter()
    async with server.channels(kernel_id) as channels:
        await channels.ask("kernel_info_request")
        replied = perf_counter()
        if pool is not None:
            await pool.check(kernel_id)
        await place.settled()
    await asyncio.sleep(PAUSE)
    deleting = perf_counter()
    await server.delete(kernel_id)
    samples = {
        "post": [posted - begin],
        "reply": [replied - begin],
        "delete": [perf_counter() - deleting],
    }
    for key, seconds in samples.items():
        found[key][column.name] = seconds


async def measure(columns: list[Column], rounds: int) -> tuple[Samples, list[str]]:
    samples: dict[str, dict[str, list[list[float]]]] = {
        m.key: {column.name: [] for column in columns} for m in MEASURES
    }
    async with (
        opened(columns, frozenset({"start"})) as place,
        jupyter_server(place, NOT_KEPT_HERE) as server,
    ):
        for number in range(rounds + 1):
            running.say(f"round {number} of {rounds}" if number else "warming up")
            found: Round = {m.key: {} for m in MEASURES}
            for column in columns[:: 1 if number % 2 else -1]:
                await one_kernel(server, column, place, found)
            if number:
                for key, by_column in found.items():
                    for name, seconds in by_column.items():
                        samples[key][name].append(seconds)
        return samples, [f"warm: {told(place.pools.values())}"] if place.pools else []


def main() -> int:
    parser = running.parser("server.py", __doc__, rounds=10)
    parser.add_argument("--no-warm", action="store_true", help="without kernels from the pool")
    arguments: argparse.Namespace = parser.parse_args()
    columns = [
        Column(name="local", provisioner=LOCAL),
        Column(name="container", provisioner=OURS),
    ]
    if not arguments.no_warm:
        columns.append(warm_column())
    samples, notes = running.run(lambda: measure(columns, arguments.rounds))
    names = [column.name for column in columns]
    table = report.rows(samples, MEASURES, names)
    figures = report.as_json(samples, MEASURES, names)
    told = report.facts(arguments.rounds, {}) + notes
    running.tell(arguments, {"": table}, told, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
