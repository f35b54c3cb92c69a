"""The records: for each kernel one private file that says how to find and control it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import KernelNotAdoptable, RecordsLocked
from .places import FOLDER, runtime_folder, short_name, write_private

# A record is read, judged and written again in milliseconds.
LOCK_SECONDS = 10.0
_LARGEST = 1024**2  # bytes; ours have a few thousand

Record = dict[str, Any]

_threads = threading.Lock()  # the file's lock tells processes apart, not threads


class RecordStore:
    """One JSON file for each kernel, 0600, replaced atomically: the provisioner's info and more.

    Reading needs no lock. Who decides by what a record says, and then changes it, uses `update`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or runtime_folder() / FOLDER / "records"

    def path(self, kernel_id: str) -> Path:
        return self.folder / f"{short_name(kernel_id)}.json"

    def write(self, kernel_id: str, record: Mapping[str, Any]) -> None:
        write_private(self.path(kernel_id), json.dumps(record, indent=2))

    def read(self, kernel_id: str) -> Record:
        """Raises `KernelNotAdoptable` for a record that is missing, torn or of another kernel."""
        path = self.path(kernel_id)
        record = self._load(path)
        if record.get("kernel_id") != kernel_id:
            raise KernelNotAdoptable(f"The record {path} is not one of kernel {kernel_id}.")
        return record

    def read_all(self, *, set_aside: bool = True) -> tuple[list[Record], list[str]]:
        """Every record that can be read, and what is wrong with each of the others.

        Those are `set_aside` under another name, so that each is reported once and nothing is lost.
        """
        records, problems = [], []
        for path in sorted(self.folder.glob("*.json")):
            try:
                records.append(self.read_file(path))
            except KernelNotAdoptable as exc:
                if not path.exists():
                    continue  # removed since it was listed
                if not set_aside:
                    problems.append(str(exc))
                    continue
                aside = path.with_suffix(".unreadable")
                with contextlib.suppress(OSError):
                    path.replace(aside)
                problems.append(f"{exc} It was set aside as {aside.name}.")
        return records, problems

    def read_file(self, path: Path) -> Record:
        """Raises `KernelNotAdoptable` for a file that is not the record of any kernel."""
        record = self._load(path)
        kernel_id = record.get("kernel_id")
        if not isinstance(kernel_id, str) or path != self.path(kernel_id):
            raise KernelNotAdoptable(f"The record {path} is not one of its kernel.")
        return record

    def update(self, kernel_id: str, change: Callable[[Record | None], Record | None]) -> None:
        """Replace a record by what `change` makes of it, with nobody in between.

        `change` is given None when there is none (or none that can be read), may raise, and
        returns None to remove it. Raises `RecordsLocked` when another process does not let go.
        Blocks for that time; not for an event loop.
        """
        with self._locked():
            record: Record | None = None
            with contextlib.suppress(KernelNotAdoptable):
                record = self.read(kernel_id)
            changed = change(record)
            if changed is None:
                self.remove(kernel_id)
            elif changed != record:
                self.write(kernel_id, changed)

    def remove(self, kernel_id: str) -> None:
        path = self.path(kernel_id)
        path.unlink(missing_ok=True)
        path.with_suffix(".unreadable").unlink(missing_ok=True)

    def forget(self, kernel_id: str) -> None:
        """The kernel is no more: its record, and Jupyter's connection file of it."""
        with contextlib.suppress(KernelNotAdoptable):
            if (path := self.connection_file(self.read(kernel_id))) is not None:
                path.unlink(missing_ok=True)
        self.remove(kernel_id)

    @staticmethod
    def connection_file(record: Mapping[str, Any]) -> Path | None:
        """Jupyter's own connection file of that kernel, for its clients; None if nobody can say."""
        path = Path(str(record.get("connection_file") or "-"))
        # Where jupyter_client puts them, and nowhere else: the file will be removed.
        ours = path.parent == runtime_folder() and path.suffix == ".json"
        return path if ours and path.name.startswith("kernel-") else None

    @staticmethod
    def _load(path: Path) -> Record:
        try:
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
                raise KernelNotAdoptable(f"The record {path} is not a file of this user.")
            if status.st_size > _LARGEST:
                raise KernelNotAdoptable(f"The record {path} is too large to be one.")
            record = json.loads(path.read_text(encoding="ascii"))
        except (OSError, ValueError, RecursionError) as exc:
            raise KernelNotAdoptable(f"The record {path} cannot be read: {exc}.") from exc
        if not isinstance(record, dict):
            raise KernelNotAdoptable(f"The record {path} holds no record.")
        return record

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_SECONDS
        if not _threads.acquire(timeout=LOCK_SECONDS):
            raise RecordsLocked(str(self.folder))
        try:
            with open(self.folder / ".lock", "ab") as file:
                while True:
                    try:
                        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except OSError:
                        if time.monotonic() > deadline:
                            raise RecordsLocked(str(self.folder)) from None
                        time.sleep(0.01)
                yield
        finally:
            _threads.release()
