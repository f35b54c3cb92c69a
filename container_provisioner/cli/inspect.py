"""``inspect``: everything that is known about one kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ..engine.base import ENDED, ContainerInfo
from ..errors import KernelNotAdoptable
from ..exits import ExitStatus, explain_exit, format_size
from ..spec import Mount
from ..store import KernelDirectory, RecordStore
from .asking import run, the_engine
from .kernels import ListedKernel, complete_kernel, find_kernel, list_kernels
from .output import json_option, print_json
from .ps import as_fields

_BYTES = frozenset({"memory", "shm_size"})


@click.command()
@click.argument("kernel", shell_complete=complete_kernel)
@json_option
def inspect(kernel: str, as_json: bool) -> None:
    """Show all that is known about KERNEL.

    Its image and command, where its messages go, what it may use and see, whose it is, and, of an
    ended one, why it ended. No key and no value of an environment variable is among it.
    """

    async def found() -> tuple[ListedKernel, ContainerInfo, str]:
        engine = await the_engine()
        listed = find_kernel(await list_kernels(engine), kernel)
        return listed, await engine.inspect(listed.container.id), engine.url

    facts = _facts(*run(found()))
    if as_json:
        print_json(facts)
        return
    lines = list(_lines(facts))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        click.echo(f"{name:<{width}}  {value}".rstrip())


def _facts(listed: ListedKernel, found: ContainerInfo, engine_url: str) -> dict[str, Any]:
    known, limits = listed.facts, found.limits
    directory = known.directory if known else KernelDirectory.of(found.name)
    why = None
    if found.state in ENDED:
        status = ExitStatus(code=found.exit_code, oom_killed=found.oom_killed, error=found.error)
        why = explain_exit(status, memory_limit=limits.memory)
    return {
        **as_fields(listed),
        "why": why,
        "command": list(known.identity.argv) if known else None,
        "engine": engine_url,
        "started": found.started_at or None,
        "phase": directory.marked()[1] or None,
        "on_server_exit": known.on_server_exit if known else "stop",
        "max_idle": (known.max_idle if known else 0) or None,
        "server": (known.server if known else "") or None,
        "recorded": _is_recorded(listed),
        "transport": (known.transport if known else "") or None,
        "network": found.network,
        "addresses": dict(found.addresses),
        "published": {str(port): f"{ip}:{out}" for port, (ip, out) in found.published.items()},
        "runs_as": found.user,
        "working_directory": known.cwd if known else None,
        "read_only": found.read_only,
        "limits": {
            "memory": limits.memory,
            "cpus": limits.cpus,
            "pids": limits.pids,
            "shm_size": limits.shm_size,
        },
        "private_directory": str(directory.path),
        "mounts": [vars(mount) for mount in _shown(found.mounts, directory)],
    }


def _is_recorded(listed: ListedKernel) -> bool:
    """Whether another process would find it to adopt it."""
    with contextlib.suppress(KernelNotAdoptable):
        RecordStore().read(listed.kernel_id)
        return True
    return False


def _shown(mounts: tuple[Mount, ...], directory: KernelDirectory) -> list[Mount]:
    """What the kernel sees of the host: without its private directory, which is named already."""
    private = str(directory.path.resolve())
    return sorted(
        (m for m in mounts if m.source != private and not m.source.startswith(f"{private}/")),
        key=lambda mount: mount.target,
    )


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same for people; what is not known, or nothing, is left out."""
    for name, value in facts.items():
        title = name.replace("_", " ")
        if name == "mounts":
            for mount in value:
                how = "read-only" if mount["read_only"] else "writable"
                yield title, f"{mount['target']} is {mount['source']}, {how}"
                title = ""
        elif name == "owner" and value:
            yield title, f"{value['program']} {value['pid']}"
        elif name == "command" and value:
            yield title, " ".join(value)
        elif isinstance(value, dict):
            for key, part in value.items():
                if part:
                    yield (
                        f"{title}: {key.replace('_', ' ')}",
                        format_size(part) if key in _BYTES else str(part),
                    )
        elif isinstance(value, bool):
            yield title, "yes" if value else "no"
        elif value:
            yield title, str(value)
