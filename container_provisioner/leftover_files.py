"""Files of kernels that are no more: which there are, and how to remove them."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import KernelNotAdoptable
from .store import (
    KernelDirectory,
    Offer,
    Offers,
    RecordStore,
    half_written,
    lease_is_held,
    leases,
    private_root,
    short_name,
    state_folder,
)

_DIRECTORY = re.compile(r"[0-9a-f]{12}|\.[0-9a-f]{12}-([0-9a-f]{16})")
_MAKING_SECONDS = 5.0  # a directory that names nobody may be in the making: milliseconds


@dataclass(frozen=True, kw_only=True)
class Files:
    """What this runtime directory held at one moment, of kernels on one engine."""

    engine_url: str
    dead: frozenset[str]  # leases of processes that have died
    records: RecordStore = field(default_factory=RecordStore)
    _recorded: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def now(cls, engine_url: str) -> Files:
        dead = frozenset(lease for lease in leases() if not lease_is_held(lease))
        found, _ = RecordStore().read_all(set_aside=False)
        return cls(engine_url=engine_url, dead=dead, _recorded=found)

    def recorded_owner(self, kernel_id: str, container_id: str) -> str:
        """As the record has it at this moment; empty when it is of another container, or nobody."""
        with contextlib.suppress(KernelNotAdoptable):
            record = self.records.read(kernel_id)
            if _container_of(record) == container_id:
                return str(record.get("owner", ""))
        return ""

    def lost_kernels(self, there: Collection[str]) -> Iterator[tuple[str, str]]:
        """Recorded kernels that no living process has and whose container is not `there`.

        Yields their ids, and their containers'.
        """
        for record in self._recorded:
            kernel_id, container_id = record["kernel_id"], _container_of(record)
            engine = record["container"]["engine_url"] if container_id else ""
            marked, _ = KernelDirectory.of(kernel_id).marked()
            has_owner = lease_is_held(str(record.get("owner", ""))) or lease_is_held(marked)
            if engine == self.engine_url and container_id not in there and not has_owner:
                yield kernel_id, container_id

    def forget(self, kernel_id: str, container_id: str) -> bool:
        """Remove all that is left of a container that is gone; nothing of a newer one's.

        Returns True, as `remove` does when it is gone.
        """
        forgotten: list[dict[str, Any]] = []

        def change(record: dict[str, Any] | None) -> dict[str, Any] | None:
            if record is None or _container_of(record) != container_id:
                return record
            forgotten.append(record)
            return None

        self.records.update(kernel_id, change)
        for record in forgotten:
            _remove_connection_file(record)
        directory = KernelDirectory.of(kernel_id)
        if not lease_is_held(directory.marked()[0]):
            directory.remove()
        return True

    def stray(
        self, kernels: Collection[str], offers: Collection[Offer], there: Collection[str]
    ) -> Iterator[tuple[Path, str]]:
        """Files and directories that are of no kernel, each with the reason.

        `kernels` are ids in the labels of containers, `there` are ids of containers.
        """
        used = {short_name(kernel_id) for kernel_id in kernels}
        for path in half_written():
            yield path, "half-written"
        for path in self.records.folder.glob("*.*"):
            if path.stem not in used and self._is_unreadable(path):
                yield path, "a record that cannot be read"
        for offer in offers:
            keeper, _ = KernelDirectory.of(offer.name).marked()
            if offer.container_id not in there and not lease_is_held(keeper):
                yield Offers().path(offer), "an offer of a container that is gone"
        yield from self._stray_directories(used)

    def _stray_directories(self, used: Collection[str]) -> Iterator[tuple[Path, str]]:
        root = private_root()
        # Elsewhere it may be shared by several runtime directories, whose owners nobody knows here.
        is_own = root == state_folder()
        known = {*self.dead, *(str(record.get("owner", "")) for record in self._recorded)}
        recorded = {path.stem for path in self.records.folder.glob("*.json")}
        entries = [path for path in root.iterdir() if _DIRECTORY.fullmatch(path.name)]
        # Resolved: a claimed container's directory has the kernel's name as another one.
        kept = {path.resolve().name for path in entries if path.name in recorded} | {*used}
        for path in entries:
            owner = _owner(path)
            if path.resolve().name in kept or not _is_nobodys(path):
                continue
            if is_own or owner in known:
                yield path, "of a kernel that is no more"

    def _is_unreadable(self, path: Path) -> bool:
        if path.suffix == ".unreadable":  # it was set aside
            return True
        try:
            return path.suffix == ".json" and not self.records.read_file(path)
        except KernelNotAdoptable:
            return path.exists()  # else it was just removed

    def remove(self, path: Path) -> bool:
        """False when somebody has it by now."""
        if path.parent == self.records.folder and path.suffix == ".json":
            if path.exists() and not self._is_unreadable(path):
                return False
            # The guard may have set it aside since.
            path.with_suffix(".unreadable").unlink(missing_ok=True)
        if not _DIRECTORY.fullmatch(path.name):
            path.unlink(missing_ok=True)
            return True
        if not _is_nobodys(path):
            return False
        if path.is_symlink() and not path.exists():
            path.unlink(missing_ok=True)
        else:
            KernelDirectory(path).remove()
        return True


def _container_of(record: dict[str, Any]) -> str:
    """Its id; empty for a record that makes no sense."""
    with contextlib.suppress(KeyError, TypeError):
        return str(record["container"]["identity"]["container_id"])
    return ""


def _owner(path: Path) -> str:
    """Whom a private directory names; one in the making or going has it in its name."""
    name = _DIRECTORY.fullmatch(path.name)
    in_name = name[1] if name else ""
    return in_name or KernelDirectory(path).marked()[0]


def _is_nobodys(path: Path) -> bool:
    owner = _owner(path)
    if owner:
        return not lease_is_held(owner)
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > _MAKING_SECONDS
    return True


def _remove_connection_file(record: dict[str, Any]) -> None:
    """Unless it is of a kernel of the same id that is being started: that has another key."""
    path = RecordStore.connection_file(record)
    if path is None:
        return
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_bytes())["key"] == record["connection_info"]["key"]:
            path.unlink()
