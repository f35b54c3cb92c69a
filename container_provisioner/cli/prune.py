"""``prune``: remove what nobody needs any more."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from typing import Any

import click

from ..errors import EngineError
from ..exits import format_size
from ..pruning import Elsewhere, Leftover, Pruning, find_elsewhere, find_leftovers
from ..pruning import prune as remove_leftovers
from .asking import run, the_engine
from .output import json_option, print_json, print_table

COLUMNS = ("what", "name", "why", "size")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--everything",
    is_flag=True,
    help="Your kernels of runtime directories that are gone, too. Asks first.",
)
@click.option("-y", "--yes", is_flag=True, help="With --everything: do not ask.")
@json_option
def prune(dry_run: bool, everything: bool, yes: bool, as_json: bool) -> None:
    """Remove what nobody needs any more.

    \b
    That is
      kernels that have ended, and what they left on disk
      kernels whose owner has died and that are not to be kept
      warm containers; a server or 'warm' that keeps a pool makes others
      half-written files; private directories and volumes without a kernel
      the package's own image and network, if no kernel uses them

    Kernels that a living process has or is starting, and kept kernels that run, are never removed.
    It is safe to repeat this, and to do it while servers run. An ended kernel's container may hold
    files: 'docker cp' gets them out before.

    No Jupyter can reach those of your kernels whose runtime directory is gone. They are only
    listed; --everything removes them, too. If several containers share the engine, such a directory
    may be in another one of them.
    """
    if everything and not (yes or dry_run) and not sys.stdin.isatty():
        raise click.UsageError("--everything asks first; without a terminal, add --yes.")
    elsewhere = run(_find_elsewhere())
    chosen = elsewhere if everything else []
    if chosen and not (yes or dry_run):
        # Not while an event loop runs: Ctrl-C would be for that, and the question would go on.
        for each in chosen:
            click.echo(f"{each.name}  {each.directory} is gone", err=True)
        if not click.confirm(f"Remove these {len(chosen)} kernels?", err=True):
            chosen = []
    done = run(_prune(chosen, dry_run=dry_run))
    if chosen:
        elsewhere = []
    if as_json:
        print_json(
            {
                "would_remove" if dry_run else "removed": [asdict(each) for each in done.removed],
                "failed": [{**asdict(each), "error": error} for each, error in done.failed],
                "elsewhere": [asdict(each) for each in elsewhere],
            }
        )
    else:
        _print(done, elsewhere, dry_run=dry_run)
    if done.failed:
        raise EngineError(
            f"{len(done.failed)} could not be removed: "
            + "; ".join(f"{each.name}: {error}" for each, error in done.failed)
        )


async def _find_elsewhere() -> list[Elsewhere]:
    return await find_elsewhere(await the_engine())


async def _prune(lost: list[Elsewhere], *, dry_run: bool) -> Pruning:
    """What was, or would be, removed; `lost` first, which are of runtime directories that are
    gone."""
    engine = await the_engine()
    outcome = Pruning()
    for each in lost:
        leftover = Leftover(kind="kernel", name=each.name, why="its runtime directory is gone")
        try:
            if not dry_run:
                await engine.remove(each.container_id)
            outcome.removed.append(leftover)
        except EngineError as exc:
            outcome.failed.append((leftover, str(exc)))
    if dry_run:
        outcome.removed += await find_leftovers(engine)
        return outcome
    done = await remove_leftovers(engine, logging.getLogger(__name__))
    outcome.removed += done.removed
    outcome.failed += done.failed
    return outcome


def _print(done: Pruning, elsewhere: list[Elsewhere], *, dry_run: bool) -> None:
    if done.removed:
        print_table(COLUMNS, map(_cells, done.removed), whole="name")
        verb = "would be removed" if dry_run else "removed"
        click.echo(f"{len(done.removed)} {verb}.", err=True)
    elif not done.failed:
        click.echo("Nothing to remove.", err=True)
    if elsewhere:
        click.echo(
            f"Left: {len(elsewhere)} of runtime directories that are gone: "
            + ", ".join(each.name for each in elsewhere)
            + ". 'prune --everything' removes them.",
            err=True,
        )


def _cells(leftover: Leftover) -> tuple[Any, ...]:
    size = format_size(leftover.size) if leftover.size else "-"
    return leftover.kind, leftover.name, leftover.why, size
