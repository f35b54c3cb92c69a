"""Guards as the operating system sees them, and guards that are in a hurry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from container_provisioner.guard import client

HASTY = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "import container_provisioner.guard.process as process; "
    "process.PASSES, process.LOOK_SECONDS, process.LINGER_SECONDS = (0.0, 0.2, 0.5), 0.1, 0.5; "
    "process.main()"
)


@contextmanager
def hasty_guard() -> Iterator[None]:
    """A guard that is started meanwhile looks, and tries again, ten times as often.

    For what does not depend on how long an engine may go on after a death.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_BOOT", HASTY)
        yield


def guards(runtime_dir: Path) -> list[int]:
    """Ids of the processes that guard this runtime directory."""
    place = f"JUPYTER_RUNTIME_DIR={runtime_dir}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            code = b"".join((process / "cmdline").read_bytes().split(b"\0")[2:3])  # after -c
            if b"guard.process" in code and place in _environment(process):
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return sorted(pid for pid in found if pid != os.getpid())


def _environment(process: Path) -> list[bytes]:
    return (process / "environ").read_bytes().split(b"\0")
