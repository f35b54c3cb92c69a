"""Guards as the operating system sees them."""

from __future__ import annotations

import os
from pathlib import Path


def guards(runtime_dir: Path) -> list[int]:
    """Ids of the processes that guard this runtime directory."""
    place = f"JUPYTER_RUNTIME_DIR={runtime_dir}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"guard.process" in command and place in _environment(process):
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return sorted(pid for pid in found if pid != os.getpid())


def _environment(process: Path) -> list[bytes]:
    return (process / "environ").read_bytes().split(b"\0")
