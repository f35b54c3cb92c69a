"""``ps``: which kernels there are, whose they are, and how they are."""

from __future__ import annotations

import contextlib
import pwd
import time
from datetime import datetime, timezone
from typing import Any

import click

from ..engine.base import ENDED
from ..exits import ExitStatus
from ..store import lease_facts
from .asking import run, the_engine
from .kernels import NONE_RUN, ListedKernel, list_kernels
from .output import json_option, print_json, print_table
from .progress import notice

COLUMNS = ("kernel", "name", "image", "state", "created", "owner", "folder")
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


@click.command()
@click.option("-a", "--all", "ended_too", is_flag=True, help="Ended kernels, too.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Whole kernel ids only. Leaves out what no kernel is yet."
)
@click.option(
    "--everyone",
    is_flag=True,
    help="All users' kernels on the engine, and those of your other runtime directories.",
)
@json_option
def ps(ended_too: bool, quiet: bool, everyone: bool, as_json: bool) -> None:
    """List your kernels.

    Yours are those of this user and this Jupyter runtime directory ('jupyter --runtime-dir').

    \b
    STATE is
      running, paused
      kept             it runs, no server has it, the next one takes it up again
      waiting          a warm container: becomes the next kernel of that NAME
      created          it is being started
      ended (…)        by a signal, or with an exit code; see 'inspect'

    OWNER is the program that has the kernel, and its process id; '-' is nobody, '?' cannot be known
    from here, as of other users' kernels.
    """

    async def listed() -> list[ListedKernel]:
        return await list_kernels(await the_engine(), everyone=everyone)

    found = run(listed())
    kernels = [k for k in found if ended_too or k.container.state not in ENDED]
    if quiet:
        kernels = [kernel for kernel in kernels if kernel.kernel_id]
    if as_json:
        print_json([k.kernel_id for k in kernels] if quiet else [as_fields(k) for k in kernels])
    elif quiet:
        for kernel in kernels:
            click.echo(kernel.kernel_id)
    elif not kernels:
        notice(NONE_RUN)
        if found:
            notice(f"'jupyter container-kernel ps --all' shows {len(found)} more, ended.")
    else:
        columns = (*COLUMNS[:-1], "user", "folder") if everyone else COLUMNS
        cells = [_cells(kernel) for kernel in kernels]
        print_table(columns, [[row[column] for column in columns] for row in cells])


def state_of(kernel: ListedKernel) -> str:
    """In one word, or with the reason of its end."""
    found = kernel.container
    if found.state in ENDED:
        status = ExitStatus(code=found.exit_code)
        return f"ended ({status.signal_name or f'exit code {found.exit_code}'})"
    if found.state != "running":
        return found.state
    if kernel.waits:
        return "waiting"
    return "kept" if kernel.is_ours and kernel.is_kept else "running"


def owner_of(kernel: ListedKernel) -> str:
    """Program and process id; ``-`` when nobody has it, ``?`` when that cannot be known."""
    if not kernel.is_ours:
        return "?"
    return (kernel.owner_program or "?") if kernel.owner_lives else "-"


def user_of(kernel: ListedKernel) -> str:
    """The name of who started it, on this host; the number of a user that it does not know."""
    if kernel.owner_uid is None:
        return ""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(kernel.owner_uid).pw_name
    return str(kernel.owner_uid)


def ago(seconds: float) -> str:
    """As people say it: ``3 minutes ago``."""
    for unit, size in _UNITS:
        if (number := int(seconds / size)) >= 1:
            return f"{number} {unit}{'s' * (number != 1)} ago"
    return "just now"


def as_fields(kernel: ListedKernel) -> dict[str, Any]:
    """The same for programs, nothing shortened."""
    found = kernel.container
    return {
        "kernel_id": kernel.kernel_id or None,
        "kernel_name": kernel.kernel_name,
        "image": kernel.image,
        "state": state_of(kernel).partition(" ")[0],
        "exit_code": found.exit_code if found.state in ENDED else None,
        "created": datetime.fromtimestamp(found.created, timezone.utc).isoformat(),
        "owner": _owner_fields(kernel),
        "user": user_of(kernel) or None,
        "is_ours": kernel.is_ours,
        "folder": (kernel.facts.folder if kernel.facts else "") or None,
        "container_id": found.id,
        "container_name": found.name,
        "node": found.node or None,
    }


def _owner_fields(kernel: ListedKernel) -> dict[str, Any] | None:
    if not (kernel.is_ours and kernel.owner_lives):
        return None
    facts = lease_facts(kernel.owner)
    return {"program": facts.get("program"), "pid": facts.get("pid")}


def _cells(kernel: ListedKernel) -> dict[str, str]:
    return {
        "kernel": kernel.short_id,
        "name": kernel.kernel_name,
        "image": kernel.image,
        "state": state_of(kernel),
        "created": ago(time.time() - kernel.container.created),
        "owner": owner_of(kernel),
        "user": user_of(kernel) or "-",
        "folder": (kernel.facts.folder if kernel.facts else "") or "-",
    }
