"""Kernels in numbers: many starts at once, many claims at once, many idle ones.

lag     starts at once in one process; how late its event loop comes back meanwhile
claims  kernels started by eight processes; from one pool none is given twice
idle    kernels on one Jupyter Server that do nothing, and what that costs
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AsyncExitStack
from typing import Any

import claims
import idle
import lag
import report
import running
from place import LOCAL, OURS, Column, Place, warm_column
from pool import Pool, pool, told

PARTS = ("lag", "claims", "idle")
COLD = [Column(name="local", provisioner=LOCAL), Column(name="container", provisioner=OURS)]


def parse() -> argparse.Namespace:
    parser = running.parser("load.py", __doc__, rounds=3)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="may be given several times (default: all)"
    )
    parser.add_argument("--starts", type=int, default=20, help="at once, for lag (default: 20)")
    parser.add_argument("--claims", type=int, default=32, help="in all (default: 32)")
    parser.add_argument("--kernels", type=int, default=100, help="idle ones (default: 100)")
    parser.add_argument("--seconds", type=float, default=60, help="idle for so long (default: 60)")
    parser.add_argument("--no-warm", action="store_true", help="without the pool")
    return parser.parse_args()


async def with_pools(arguments: argparse.Namespace, part: str) -> tuple[Any, list[str]]:
    """One of the parts that compare local, cold and warm starts."""
    number = getattr(arguments, "starts" if part == "lag" else "claims")
    columns = list(COLD)
    if not arguments.no_warm:
        columns.append(warm_column(warm_pool_size=number))
    async with running.scratch() as directory, AsyncExitStack() as stack:
        place = Place(directory, columns)
        stack.callback(place.close)
        pools: dict[str, Pool] = {}
        for column in columns:
            if column.is_warm:
                name = place.kernel_name(column)
                pools[column.name] = await stack.enter_async_context(pool(name, number))
        if part == "claims":
            return await claims.measure(columns, place, number, pools)
        samples = await lag.measure(columns, place, arguments.rounds, number, pools)
        return samples, [f"{name}, starts at once: {told([one])}" for name, one in pools.items()]


def main() -> int:
    arguments = parse()
    wanted = arguments.only or PARTS
    tables, document = {}, {}
    told = [report.machine(), *report.changed()]
    for part, measures, title in (
        ("lag", lag.MEASURES, f"{arguments.starts} starts at once"),
        ("claims", claims.MEASURES, f"{arguments.claims} starts by {claims.PROCESSES} processes"),
    ):
        if part in wanted:
            samples, notes = running.run(lambda part=part: with_pools(arguments, part))
            names = list(samples[measures[0].key])
            tables[title] = report.rows(samples, measures, names)
            document[part] = report.as_json(samples, measures, names)
            told += notes
    if "idle" in wanted:
        found = running.run(lambda: idle.measure(COLD, arguments.kernels, arguments.seconds))
        tables[f"{arguments.kernels} idle kernels, {arguments.seconds:g} s"] = idle.table(found)
        document["idle"] = found
    running.tell(arguments, tables, told, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
