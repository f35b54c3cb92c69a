"""The engine: which one, how it was found, and what it cannot do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from ..engine.base import EngineInfo
from ..engine.calls import Engine
from ..engine.find import candidates
from ..pruning import find_forgotten
from ..topology import SWARM
from .finding import Finding

# What a sandbox stands on, by a part of the engine's own warning. Others are not about kernels.
_LIMITS = {
    "No memory limit": "memory_limit is not enforced",
    "No swap limit": "a kernel may use swap beyond its memory_limit",
    "No cpu cfs quota": "cpu_limit is not enforced",
    "No pids limit": "pids_limit is not enforced, which is what stops a fork bomb",
}
_CURE = "Boot with the memory and pids controllers on; the engine's documentation says how."


async def examine_engine(engine: Engine, *, choice: str, url: str) -> list[Finding]:
    """`choice` and `url` are the settings ``engine`` and ``engine_url`` that found it.

    Raises `EngineUnavailable`.
    """
    info = await engine.info()
    how = dict(candidates(choice, url, os.environ)).get(engine.url.removeprefix(SWARM), "")
    version = f"{info.version}, rootless" if "rootless" in info.security else info.version
    found = Finding(
        subject="engine",
        outcome="ok",
        says=f"{info.name} {version} (API {info.api_version}) at {engine.url} ({how})",
    )
    return [found, *_confinement(info)]


async def examine_leftovers(engine: Engine) -> Finding:
    """What ``prune`` is for. Raises `EngineError`."""
    counts = Counter(leftover.kind for leftover in await find_forgotten(engine))
    if not counts:
        return Finding(subject="left behind", outcome="ok", says="nothing")
    what = ", ".join(f"{number} x {kind}" for kind, number in counts.items())
    return Finding(
        subject="left behind",
        outcome="note",
        says=f"not needed any more: {what}",
        cure="jupyter container-kernel prune; with --dry-run it only shows them",
    )


def _confinement(info: EngineInfo) -> Iterator[Finding]:
    if "seccomp" not in info.security:
        yield Finding(
            subject="seccomp",
            outcome="note",
            says="the engine does not filter system calls",
            cure="Run the engine on a Linux kernel with seccomp, and with its default profile.",
        )
    for warning in info.warnings:
        for sign, meaning in _LIMITS.items():
            if sign in warning:
                yield Finding(subject="limits", outcome="note", says=meaning, cure=_CURE)
