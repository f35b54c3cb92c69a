"""Jupyter's connection file of a kernel that may run already, spared until that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class SparedFile:
    """Has the manager write another file first: a kernel that is refused keeps its own.

    A manager writes its connection file before anybody can ask whether the kernel's container
    runs, and belongs to somebody else.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._file = str(manager.connection_file)  # empty: the manager will choose one
        self._is_spared = Path(self._file).is_file()
        if self._is_spared:
            manager.connection_file = f"{self._file}.new"

    def settle(self, *, taken: bool) -> None:
        """`taken`: the kernel is the manager's."""
        if not taken:
            self._manager.cleanup_connection_file()
        elif self._is_spared:
            # The manager finds that it says something else than we, and loads what we say. With no
            # file there, the guard might put back the kernel's own, and the manager load nothing.
            Path(self._manager.connection_file).replace(self._file)
        if self._is_spared or not taken:
            self._manager.connection_file = self._file
