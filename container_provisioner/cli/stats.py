"""``stats``: what the kernels use now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..engine.base import RUNNING, Usage
from ..engine.calls import Engine
from ..errors import ContainerGone
from ..exits import format_size
from .asking import run, the_engine
from .kernels import NONE_RUN, ListedKernel, check_runs, complete_kernel, find_kernel, list_kernels
from .output import json_option, make_table, print_json, print_table
from .progress import notice

COLUMNS = ("kernel", "name", "cpu", "memory", "limit", "used", "processes")

REFRESH_SECONDS = 2.0
SAMPLE_SECONDS = 1.0  # between the two looks at the processors


@click.command()
@click.argument("kernels", nargs=-1, metavar="[KERNEL]...", shell_complete=complete_kernel)
@click.option("--no-stream", is_flag=True, help="Once, as in a pipe and with --json.")
@json_option
def stats(kernels: tuple[str, ...], no_stream: bool, as_json: bool) -> None:
    """Show what running kernels use, until Ctrl-C.

    CPU is in percent of one processor: 200% are two. MEMORY does not count file caches that can be
    given up; USED is its part of LIMIT, which is all of the host's memory where nothing else limits
    it. PROCESSES counts threads, too. A kernel that ends is shown no more. Ctrl-C is the way to
    end, and the exit code is then 0.
    """
    is_live = sys.stdout.isatty() and not no_stream and not as_json
    if is_live:
        try:
            run(_watch(kernels))
        except KeyboardInterrupt:
            click.echo()
        return
    measured = run(_once(kernels))
    if as_json:
        print_json([_fields(each) for each in measured])
    elif not measured:
        notice(NONE_RUN)
    else:
        print_table(COLUMNS, map(_cells, measured))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one kernel uses. `cpu` is in percent of one processor; None before a second look."""

    kernel: ListedKernel
    usage: Usage
    cpu: float | None


@dataclass
class Meter:
    """Looks again and again; remembers what the processors had done at the last look."""

    engine: Engine
    _last: dict[str, tuple[Usage, float | None]] = field(default_factory=dict)

    async def measure(self, kernels: Iterable[ListedKernel]) -> list[Measured]:
        """All at once. One that has ended since it was listed is left out."""
        found = await asyncio.gather(*(self._measure(kernel) for kernel in kernels))
        measured = [each for each in found if each is not None]
        self._last = {each.kernel.container.id: (each.usage, each.cpu) for each in measured}
        return measured

    async def _measure(self, kernel: ListedKernel) -> Measured | None:
        try:
            usage = await self.engine.usage(kernel.container.id)
        except ContainerGone:
            return None
        if usage == Usage():
            return None
        before, cpu = self._last.get(kernel.container.id, (usage, None))
        seconds = usage.at - before.at
        if seconds > 0 and usage.cpu_seconds >= before.cpu_seconds:  # else it has begun anew
            cpu = 100 * (usage.cpu_seconds - before.cpu_seconds) / seconds
        return Measured(kernel=kernel, usage=usage, cpu=cpu)


async def running(engine: Engine, names: Sequence[str]) -> list[ListedKernel]:
    """Those that were named, or all; one call. Raises `KernelNotFound`, `KernelNotRunning`."""
    kernels = await list_kernels(engine)
    if names:
        chosen = {find_kernel(kernels, name).container.id for name in names}
        kernels = [kernel for kernel in kernels if kernel.container.id in chosen]
        for kernel in kernels:
            if kernel.container.state not in RUNNING:
                check_runs(kernel)
    return [kernel for kernel in kernels if kernel.container.state in RUNNING]


async def _once(names: Sequence[str]) -> list[Measured]:
    engine = await the_engine()
    kernels, meter = await running(engine, names), Meter(engine)
    if await meter.measure(kernels):
        await asyncio.sleep(SAMPLE_SECONDS)
    return await meter.measure(kernels)


async def _watch(names: Sequence[str]) -> None:
    engine = await the_engine()
    meter = Meter(engine)
    measured = await meter.measure(await running(engine, names))
    # As many as there are lines for; rich says with an ellipsis that there are more.
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            table = make_table(COLUMNS, map(_cells, measured))
            live.update(table if measured else Text(NONE_RUN), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
            known = [each.kernel.container.id for each in measured] if names else []
            kernels = await running(engine, [])
            if names:  # they were found once; one that has ended is no error
                kernels = [kernel for kernel in kernels if kernel.container.id in known]
            measured = await meter.measure(kernels)


def _cells(measured: Measured) -> tuple[str, ...]:
    usage = measured.usage
    limit, part = "-", "-"
    if usage.memory_limit:
        limit = format_size(usage.memory_limit)
        part = f"{100 * usage.memory / usage.memory_limit:.1f}%"
    return (
        measured.kernel.short_id,
        measured.kernel.kernel_name,
        "-" if measured.cpu is None else f"{measured.cpu:.1f}%",
        format_size(usage.memory),
        limit,
        part,
        str(usage.pids),
    )


def _fields(measured: Measured) -> dict[str, Any]:
    usage = measured.usage
    return {
        "kernel_id": measured.kernel.kernel_id or None,
        "kernel_name": measured.kernel.kernel_name,
        "container_id": measured.kernel.container.id,
        "cpu_percent": None if measured.cpu is None else round(measured.cpu, 2),
        "memory": usage.memory,
        "memory_limit": usage.memory_limit or None,
        "processes": usage.pids,
    }
