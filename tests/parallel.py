"""Tests in several processes (pytest-xdist) on one engine: who runs what, and whose turn it is.

Most files look at nothing but what is their own, and run beside each other. One that is marked
``alone`` asserts on what is everybody's, such as a network that must not be there.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__)


def worker() -> int:
    """The number of this process among those of the run, from 0."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # not typed
    """A process runs whole files, and one of them all tests with Podman, which locks what it works
    on for all its users."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "podman" if "podman" in file or "[podman" in nodeid else file


class Turn:
    """Of one process. Without others it never waits."""

    def __init__(self) -> None:
        self._locks = ExitStack()
        self._has_begun = False

    def begin(self, *, alone: bool) -> None:
        """Wait until it is its turn, if it is not already."""
        if self._has_begun:
            return
        with open(HERE.parent / "__init__.py") as queue:
            # Who waits to be alone holds up the queue: there would always be somebody before it.
            fcntl.flock(queue, fcntl.LOCK_EX)
            engine = os.open(HERE, os.O_RDONLY)
            self._locks.callback(os.close, engine)
            fcntl.flock(engine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._has_begun = True

    def end(self) -> None:
        self._locks.close()
        self._has_begun = False
