"""``doctor``: what works here and what does not, a line each, with its cure."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import click
from click.exceptions import Exit
from rich.console import Console
from rich.text import Text

from ..config import ContainerSettings
from ..diagnosis import Finding, examine_engine, examine_installation, examine_kernel
from ..engine.find import open_engine
from ..errors import EngineError
from .asking import run
from .completion import complete_kernelspec
from .output import json_option, print_json

_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "red")}


@click.command()
@click.argument("kernel", default="", metavar="[KERNELSPEC]", shell_complete=complete_kernelspec)
@json_option
def doctor(kernel: str, as_json: bool) -> None:
    """Examine this installation, its engine, and a kernel of KERNELSPEC that is started for it.

    Without KERNELSPEC a kernel with this machine's own Python. Nothing is changed or left. Exit
    code 1 when something does not work.
    """
    found = run(_examine(kernel, as_json=as_json))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in found])
    if any(finding.outcome == "problem" for finding in found):
        raise Exit(1)


async def _examine(kernel: str, *, as_json: bool) -> list[Finding]:
    found = []
    async for finding in _findings(kernel):
        found.append(finding)
        if not as_json:
            _tell(finding)  # at once: some take seconds
    return found


async def _findings(kernel: str) -> AsyncIterator[Finding]:
    for finding in examine_installation():
        yield finding
    try:
        settings = ContainerSettings()
        engine = await open_engine(settings.engine, settings.engine_url)
        findings = await examine_engine(engine, choice=settings.engine, url=settings.engine_url)
    except EngineError as exc:
        yield Finding(subject="engine", outcome="problem", says=str(exc))
        return
    for finding in findings:
        yield finding
    async for finding in examine_kernel(kernel):
        yield finding


def _tell(finding: Finding) -> None:
    mark, colour = _MARKS[finding.outcome]
    line = Text.assemble((mark, colour), " ", (f"{finding.subject}: ", "bold"), finding.says)
    if finding.cure:
        line.append(f"\n  → {finding.cure}")
    # Not wrapped: the terminal does that, and a pipe has no width.
    Console(highlight=False).print(line, soft_wrap=True)
