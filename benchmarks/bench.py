"""Compares kernels in containers with local ones: `make bench`, or `python benchmarks/bench.py`.

See README.md beside this file for what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import sys

import report
import rounds
import running
from place import LOCAL, OURS, Column, warm_column


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = running.parser("bench.py", __doc__, rounds=7)
    parser.add_argument(
        "--only",
        action="append",
        choices=rounds.GROUPS,
        help="only this measure; may be given several times (default: all)",
    )
    parser.add_argument("--image", help="a further column: kernels in this image")
    parser.add_argument(
        "--no-ipc", action="store_true", help="without the column of local kernels over ipc"
    )
    parser.add_argument(
        "--no-warm", action="store_true", help="without the column of kernels from the warm pool"
    )
    parser.add_argument(
        "--noise",
        action="store_true",
        help="local kernels in the container's columns too: what chance alone makes of the ratios",
    )
    return parser.parse_args(argv)


def chosen_columns(arguments: argparse.Namespace) -> list[Column]:
    columns = [Column(name="local", provisioner=LOCAL)]
    if not arguments.no_ipc:
        columns.append(Column(name="local ipc", provisioner=LOCAL, transport="ipc"))
    if arguments.noise:
        return [*columns, Column(name="local again", provisioner=LOCAL)]
    columns.append(Column(name="container", provisioner=OURS))
    if arguments.image:
        columns.append(Column(name="image", provisioner=OURS, config={"image": arguments.image}))
    if not arguments.no_warm:
        columns.append(warm_column())
    return columns


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    columns = chosen_columns(arguments)
    wanted = frozenset(arguments.only or rounds.GROUPS)
    results = running.run(lambda: rounds.run(columns, arguments.rounds, wanted))
    names = [column.name for column in columns]
    told = report.facts(arguments.rounds, results.inside) + results.notes
    table = report.rows(results.samples, rounds.MEASURES, names)
    figures = report.as_json(results.samples, rounds.MEASURES, names)
    running.tell(arguments, {"": table}, told, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
