"""``inspect``: everything that is known about one kernel."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import click

from ..engine.answers import moment
from ..engine.base import ENDED, ContainerInfo
from ..errors import KernelNotAdoptable
from ..exits import format_size
from ..host_environment import HOST_TITLE
from ..spec import Mount
from ..store import KernelDirectory, RecordStore
from .asking import run, the_engine
from .kernels import ListedKernel, complete_kernel, find_kernel, list_kernels, why_ended
from .output import json_option, print_json, print_pairs
from .ps import ago, as_fields, owner_of, state_of, user_of
from .servers import server_of


@click.command()
@click.argument("kernel", shell_complete=complete_kernel)
@json_option
def inspect(kernel: str, as_json: bool) -> None:
    """Show all that is known about KERNEL.

    Its image and command, where its messages go, what it may use and see, whose it is, and, of an
    ended one, when and why it ended and what is left of it. No key and no value of an environment
    variable is among it. With --json, more: each of this machine's paths that it sees, whole times.
    """

    async def found() -> tuple[ListedKernel, ContainerInfo, str]:
        engine = await the_engine()
        listed = find_kernel(await list_kernels(engine), kernel)
        return listed, await engine.inspect(listed.container.id), engine.url

    listed, container, engine_url = run(found())
    if as_json:
        print_json(_facts(listed, container, engine_url))
    else:
        print_pairs(
            (title, words) for title, words in _page(listed, container, engine_url) if words
        )


def _directory(listed: ListedKernel) -> KernelDirectory:
    return listed.facts.directory if listed.facts else KernelDirectory.of(listed.container.name)


def _facts(listed: ListedKernel, found: ContainerInfo, engine_url: str) -> dict[str, Any]:
    known, limits = listed.facts, found.limits
    directory = _directory(listed)
    has_ended = found.state in ENDED
    return {
        **as_fields(listed),
        "why": why_ended(found) or None,
        "command": list(known.identity.argv) if known else None,
        "engine": engine_url,
        "started": found.started_at or None,
        "ended": found.finished_at or None,
        "phase": None if has_ended else directory.marked()[1] or None,
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


def _page(listed: ListedKernel, found: ContainerInfo, url: str) -> Iterator[tuple[str, str]]:
    """Titles and words for people; without words there is nothing to say."""
    known, limits = listed.facts, found.limits
    yield "kernel", listed.kernel_id or "none yet: it waits in a warm pool"
    yield "kernelspec", listed.kernel_name
    if found.state in ENDED:
        yield "state", f"ended {_when(found.finished_at)}"
        yield "why", why_ended(found)
        yield "left", _left(listed, found)
    else:
        began = _when(found.started_at)
        yield "state", f"{state_of(listed)}, started {began}" if began else state_of(listed)
        if not (listed.waits or _is_recorded(listed)):
            yield "record", "lost: no other process can take it up"
    yield "owner", "nobody" if owner_of(listed) == "-" else owner_of(listed)
    yield "started by", user_of(listed)
    yield "when its owner ends", _afterwards(listed)
    yield "image", listed.image
    yield "command", " ".join(known.identity.argv) if known else ""
    yield "folder", known.folder if known else ""
    yield "works in", known.cwd if known else ""
    yield "runs as", _user(found.user)
    yield "messages", f"over {known.transport}" if known and known.transport else ""
    yield "network", found.network
    for network, address in found.addresses.items():
        yield "address", f"{address} in {network}"
    for port, (ip, out) in sorted(found.published.items()):
        yield "port", f"{port} is {ip}:{out} here"
    yield "memory", f"{format_size(limits.memory)} at most" if limits.memory else "no limit"
    yield "processors", f"{limits.cpus:g} at most" if limits.cpus else "no limit"
    yield "processes", f"{limits.pids} at most" if limits.pids else "no limit"
    yield "shared memory", format_size(limits.shm_size) if limits.shm_size else ""
    yield "root filesystem", "read-only" if found.read_only else "can be written"
    yield from _mounts(listed, found)
    yield "container", f"{found.name} ({found.id[:12]})"
    yield "private directory", str(_directory(listed).path)
    yield "engine", url


def _when(text: str) -> str:
    """The engine's time as people say it; empty for none."""
    at = moment(text)
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    return f"{ago(time.time() - at)} ({shown})" if at else ""


def _left(listed: ListedKernel, found: ContainerInfo) -> str:
    removes = f"'jupyter container-kernel kill {listed.short_id}' removes it"
    if listed.is_ours and listed.owner_lives and server_of(listed.owner) is None:
        removes = f"{listed.owner_program}, which has it, removes it"
    if found.read_only:
        return f"its log; its home and /tmp were in memory and are gone. {removes}"
    return f"its log, and its files: 'docker cp {found.name}:PATH .'. {removes}"


def _afterwards(listed: ListedKernel) -> str:
    known = listed.facts
    if listed.waits or listed.container.state in ENDED:
        return ""
    if known is None or known.on_server_exit != "keep":
        return "it is removed"
    idle = f", until it has done nothing for {known.max_idle:g} s" if known.max_idle else ""
    return f"it goes on{idle}"


def _user(text: str) -> str:
    uid, _, gid = text.partition(":")
    return f"uid {uid}" + (f", gid {gid}" if gid else "") if uid else "the image's user"


def _mounts(listed: ListedKernel, found: ContainerInfo) -> Iterator[tuple[str, str]]:
    mounts = _shown(found.mounts, _directory(listed))
    if listed.image == HOST_TITLE and listed.facts is not None:
        named = {mount.target for mount in listed.facts.mounts}
        environment = [mount for mount in mounts if mount.target not in named]
        mounts = [mount for mount in mounts if mount.target in named]
        yield (
            "sees",
            f"this machine's programs: {len(environment)} paths, read-only (--json lists them)",
        )
    for mount in mounts:
        where = "" if mount.source == mount.target else f", which is {mount.source} here"
        yield "sees", f"{mount.target}{where}, {'read-only' if mount.read_only else 'writable'}"
