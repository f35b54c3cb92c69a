"""``doctor``: what works here and what does not, a line each, with its cure."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import AsyncIterator

import click
from click.exceptions import Exit
from jupyter_client.kernelspec import NoSuchKernel
from rich.console import Console
from rich.text import Text
from traitlets import TraitError

from ..config import ContainerSettings
from ..diagnosis import (
    RUNTIME_FOLDER,
    Finding,
    examine_engine,
    examine_installation,
    examine_kernel,
    examine_leftovers,
)
from ..errors import ConfigurationError, EngineError
from .asking import run, the_engine
from .completion import complete_kernelspec
from .output import json_option, print_json

_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "red")}


@click.command()
@click.argument("kernel", default="", metavar="[KERNELSPEC]", shell_complete=complete_kernelspec)
@json_option
def doctor(kernel: str, as_json: bool) -> None:
    """Examine this installation, its engine, and a kernel of KERNELSPEC, started to be examined.

    Without KERNELSPEC the kernel has this machine's own Python. It runs in an empty folder, and
    both are removed afterwards; nothing of yours is changed. Exit code 1 when something does not
    work.
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
    has_folder = True
    for finding in examine_installation():
        yield finding
        has_folder &= (finding.subject, finding.outcome) != (RUNTIME_FOLDER, "problem")
    try:
        settings = ContainerSettings()
        engine = await the_engine()
        findings = await examine_engine(engine, choice=settings.engine, url=settings.engine_url)
        if has_folder:
            findings.append(await examine_leftovers(engine))
    except (EngineError, ConfigurationError, TraitError) as exc:
        yield Finding(subject="engine", outcome="problem", says=str(exc))
        return
    for finding in findings:
        yield finding
    if not has_folder:  # no kernel starts there
        return
    try:
        async for finding in examine_kernel(kernel, engine.url, engine.own):
            yield finding
    except (NoSuchKernel, ConfigurationError) as exc:
        yield _kernelspec_problem(exc)


def _kernelspec_problem(exc: Exception) -> Finding:
    if not isinstance(exc, NoSuchKernel):
        return Finding(subject="kernelspec", outcome="problem", says=str(exc))
    return Finding(
        subject="kernelspec",
        outcome="problem",
        says=f"there is no {exc.name!r}",
        cure="'jupyter kernelspec list' shows those that there are.",
    )


def _tell(finding: Finding) -> None:
    mark, colour = _MARKS[finding.outcome]
    line = Text.assemble((mark, colour), " ", (f"{finding.subject}: ", "bold"), finding.says)
    if finding.cure:
        line.append(f"\n  → {finding.cure}")
    # On a terminal folded between words; a pipe has no width.
    Console(highlight=False).print(line, soft_wrap=not sys.stdout.isatty())
