"""Waiting for an end, and looking at what is left then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Kernel


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def end_of(kernel: Kernel, seconds: float = 30) -> Any:
    """The kernel's exit code, once there is one; None if there is none in that time."""
    deadline = time.monotonic() + seconds
    while (code := await kernel.provisioner.poll()) is None and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return code


def left_below(runtime_dir: Path) -> list[Path]:
    """What is some kernel's: its directory, record and connection file, set-aside ones too; and
    what is offered."""
    ours = runtime_dir / "container-provisioner"
    of_all = ("records", "owners", "place", "secret", "guard", "sessions-", "warm")
    return [
        *(path for path in runtime_dir.glob("*") if path != ours),
        *(path for path in ours.glob("*") if not path.name.startswith(of_all)),
        *(path for path in ours.glob("records/*") if path.name != ".lock"),
        *ours.glob("warm/*"),
    ]


def left_of_kernels(runtime_dir: Path) -> list[Path]:
    """The same, less connection files of managers that were killed: those are Jupyter's."""
    ours = runtime_dir / "container-provisioner"
    return [path for path in left_below(runtime_dir) if path.is_relative_to(ours)]
