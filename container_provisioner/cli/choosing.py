"""The kernels that a subcommand is to do something with, and doing it with each of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click

from ..engine.calls import Engine
from ..errors import ContainerProvisionerError
from .asking import run, the_engine
from .kernels import ListedKernel, complete_kernel, find_kernel, list_kernels
from .output import json_option, print_error, print_json
from .progress import notice

F = TypeVar("F", bound=Callable[..., Any])

Verb = Callable[[Engine, ListedKernel], Awaitable[str]]
"""Does it, and returns what was done, in words."""


def several_kernels(function: F) -> F:
    """Gives a subcommand KERNEL..., ``--all``, ``--yes`` and ``--json``: the arguments of
    `for_each`."""
    for option in (
        json_option,
        click.option("--yes", "-y", is_flag=True, help="With --all: do not ask."),
        click.option("--all", "everything", is_flag=True, help="All kernels that 'ps' lists."),
        click.argument("names", nargs=-1, metavar="KERNEL...", shell_complete=complete_kernel),
    ):
        function = option(function)
    return function


def for_each(
    verb: Verb,
    action: str,
    acted: str,
    *,
    names: Sequence[str],
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Do `verb` with each of the kernels, at once, and print the ids of those with which it was
    done. `action` is its name, for the question that ``--all`` asks; `acted` its participle.

    One that fails is reported, and the others are still done. The exit code is the first failure's.
    """
    if bool(names) == everything:
        raise click.UsageError("Name at least one KERNEL, or use --all." if not names else
                               "--all and the names of kernels exclude each other.")  # fmt: skip
    if everything and not yes and not sys.stdin.isatty():
        raise click.UsageError("--all asks first, and here is nobody to ask. Add --yes.")
    kernels, failures = run(_choose(names))
    if everything and kernels and not yes:
        # Not while an event loop runs: Ctrl-C would be for that, and the question would go on.
        listed = ", ".join(kernel.short_id for kernel in kernels)
        if not click.confirm(f"{action} {listed}?", err=True):
            notice(f"Nothing was {acted}.")
            raise click.exceptions.Exit(1)
    done, failed = run(_for_each(verb, kernels))
    failures += failed
    for name, failure in failures:
        print_error(_about(name, failure))
    if as_json:
        errors = [{"kernel_id": name, "error": str(exc)} for name, exc in failures]
        print_json([*done, *errors])
    else:
        for item in done:
            click.echo(item["kernel_id"])
            click.echo(f"  {item['done']}", err=True)
    if failures:
        raise click.exceptions.Exit(failures[0][1].exit_code)


Failure = tuple[str, ContainerProvisionerError]


async def _choose(names: Sequence[str]) -> tuple[list[ListedKernel], list[Failure]]:
    """Those that were named, else all."""
    there = await list_kernels(await the_engine())
    if not names:
        return [kernel for kernel in there if not kernel.waits], []
    chosen: dict[str, ListedKernel] = {}
    failures: list[Failure] = []
    for name in names:
        try:
            kernel = find_kernel(there, name)
            chosen[kernel.container.id] = kernel
        except ContainerProvisionerError as exc:
            failures.append((name, exc))
    return list(chosen.values()), failures


async def _for_each(
    verb: Verb, kernels: Sequence[ListedKernel]
) -> tuple[list[dict[str, str]], list[Failure]]:
    engine = await the_engine()
    outcomes = await asyncio.gather(
        *(verb(engine, kernel) for kernel in kernels), return_exceptions=True
    )
    done, failures = [], []
    for kernel, outcome in zip(kernels, outcomes, strict=True):
        if isinstance(outcome, ContainerProvisionerError):
            failures.append((kernel.kernel_id or kernel.container.name, outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            done.append({"kernel_id": kernel.kernel_id, "done": outcome})
    return done, failures


def _about(name: str, failure: ContainerProvisionerError) -> str:
    words = str(failure)
    return words if name in words else f"Kernel {name}: {words}"
