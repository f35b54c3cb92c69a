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
from .output import json_option, print_json

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
    verb: Verb, action: str, *, names: Sequence[str], everything: bool, yes: bool, as_json: bool
) -> None:
    """Do `verb` with each of the kernels, at once, and print the ids of those with which it was
    done. `action` is its name, for the question that ``--all`` asks.

    One that fails is reported, and the others are still done. The exit code is the first failure's.
    """
    if bool(names) == everything:
        raise click.UsageError("Name at least one KERNEL, or use --all." if not names else
                               "--all and the names of kernels exclude each other.")  # fmt: skip
    if everything and not yes and not sys.stdin.isatty():
        raise click.UsageError("--all asks first, and here is nobody to ask. Add --yes.")
    done, failures = run(_for_each(verb, action, names, yes=yes))
    for name, failure in failures:
        click.echo(f"Error: {_about(name, failure)}", err=True)
    if as_json:
        failed = [{"kernel": name, "error": str(exc)} for name, exc in failures]
        print_json([*done, *failed])
    else:
        for item in done:
            click.echo(item["kernel_id"])
            click.echo(f"  {item['done']}", err=True)
    if failures:
        raise click.exceptions.Exit(failures[0][1].exit_code)


Failure = tuple[str, ContainerProvisionerError]


async def _for_each(
    verb: Verb, action: str, names: Sequence[str], *, yes: bool
) -> tuple[list[dict[str, str]], list[Failure]]:
    engine = await the_engine()
    there = await list_kernels(engine)
    chosen: dict[str, ListedKernel] = {}
    failures: list[Failure] = []
    for name in names:
        try:
            kernel = find_kernel(there, name)
            chosen[kernel.container.id] = kernel
        except ContainerProvisionerError as exc:
            failures.append((name, exc))
    if not names:
        chosen = {kernel.container.id: kernel for kernel in there if not kernel.waits}
        if chosen and not yes:
            listed = ", ".join(kernel.short_id for kernel in chosen.values())
            click.confirm(f"{action} {listed}?", abort=True, err=True)
    kernels = list(chosen.values())
    outcomes = await asyncio.gather(
        *(verb(engine, kernel) for kernel in kernels), return_exceptions=True
    )
    done = []
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
