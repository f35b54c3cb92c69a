"""From samples to tables: medians, ranges, ratios and the facts of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

import engine


@dataclass(frozen=True)
class Measure:
    """A row. Samples are seconds; `shown` turns them into the unit of the label."""

    key: str
    group: str  # the word --only knows
    label: str
    shown: Callable[[float], float]
    digits: int


@dataclass(frozen=True)
class Range:
    middle: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        low, high = sorted((self.low, self.high))
        return f"{self.middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


# measure key -> column name -> one list of samples per round
Samples = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]


def summary(rounds: Sequence[Sequence[float]]) -> Range:
    """The median of the rounds' medians, and the lowest and highest of them."""
    each = [median(samples) for samples in rounds]
    return Range(median(each), min(each), max(each))


def ratio(rounds: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> Range:
    """The ratio of the two medians, and the lowest and highest ratio within one round."""
    each = [median(ours) / median(theirs) for ours, theirs in zip(rounds, baseline, strict=True)]
    return Range(summary(rounds).middle / summary(baseline).middle, min(each), max(each))


def rows(samples: Samples, measures: Sequence[Measure], columns: Sequence[str]) -> list[list[str]]:
    """A heading and one row per measure; the first column is what the others are divided by."""
    baseline, *others = columns
    table = [["", *columns, *(f"{name} / {baseline}" for name in others)]]
    for measure in measures:
        by_column = samples.get(measure.key)
        if not by_column:
            continue
        cells = [measure.label]
        for name in columns:
            found = summary(by_column[name])
            turned = Range(*(measure.shown(x) for x in (found.middle, found.low, found.high)))
            cells.append(turned.text(measure.digits))
        cells += [ratio(by_column[name], by_column[baseline]).text(2) for name in others]
        table.append(cells)
    return table


def plain(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def markdown(table: Sequence[Sequence[str]]) -> str:
    heading, *body = table
    rule = ["---"] + ["--:"] * (len(heading) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [heading, rule, *body])


def machine() -> str:
    """What a reader needs to judge the figures; no host name, no path, no value of a variable."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("jupyter_client", "pyzmq"))
    return f"{cores} cores, {system}, {packages}, {engine.version()}"


def facts(rounds: int, inside: Mapping[str, str]) -> list[str]:
    """What stands below a table of medians and ratios."""
    told = [
        machine(),
        f"{rounds} rounds, interleaved; the range is that of the rounds' medians",
        "ratios are of time: above 1 is slower, for the stream too",
    ]
    seen = set(inside.values())
    if seen:
        apart = "; ".join(f"{column}: {versions}" for column, versions in inside.items())
        told.insert(1, f"kernel: {seen.pop() if len(seen) == 1 else apart}")
    return told + changed()


def changed() -> list[str]:
    names = sorted(name for name in os.environ if name.startswith("CONTAINER_PROVISIONER_"))
    return [f"not the default configuration: {', '.join(names)} set"] if names else []


def as_json(
    samples: Samples, measures: Sequence[Measure], columns: Sequence[str]
) -> dict[str, Any]:
    """Everything, in seconds, every sample of every round, so that a doubt can be followed up."""
    figures = {}
    for measure in measures:
        by_column = samples.get(measure.key)
        if not by_column:
            continue
        figures[measure.key] = {
            "label": measure.label,
            **{
                name: {
                    **asdict(summary(by_column[name])),
                    "ratio": asdict(ratio(by_column[name], by_column[columns[0]])),
                    "rounds": by_column[name],
                }
                for name in columns
            },
        }
    return {"columns": list(columns), "seconds": figures}
