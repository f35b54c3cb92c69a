"""Who owns a kernel, and whether that process still lives.

A lease is a file that a process keeps locked as long as it lives; the operating system lets go of
the lock when the process ends, however it ends. Unlike a process id, a lease means the same in
every container that sees the file, and is never given to somebody else.

The locks are POSIX record locks: a forked child does not inherit them, so a worker that outlives
its server does not keep the server's kernels. Such a lock is lost when the process closes *any*
descriptor of the file, so nothing here opens a lease of this process a second time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .places import FOLDER, runtime_folder, state_folder, writing

_ID = re.compile(r"[0-9a-f]{16}")


class Lease:
    """This process's own. `id` is what its kernels are labelled with."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.id = path, path.name
        self._descriptor = descriptor
        self.facts: dict[str, Any] = {
            "pid": os.getpid(),
            "program": _program(sys.argv[0]),
            "engines": [],
        }
        self._write()

    def uses(self, engine_url: str) -> None:
        """Note an engine on which there may be kernels of this owner."""
        if engine_url not in self.facts["engines"]:
            self.facts["engines"].append(engine_url)
            self._write()

    def release(self) -> None:
        """The kernels of this process may be taken for a dead owner's."""
        os.close(self._descriptor)
        with _lock:
            _own.pop(self.path.parent, None)

    def is_there(self) -> bool:
        """Whether the file is still the locked one: somebody may have emptied the folder."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _write(self) -> None:
        text = json.dumps(self.facts).encode("ascii")  # grows only, so nothing has to be cut off
        os.pwrite(self._descriptor, text, 0)

    @classmethod
    def take(cls, name: str) -> Lease:
        """Raises `ConfigurationError` where files cannot be written or locked."""
        state_folder()
        path = _folder() / name
        new = path.with_name(f".{name}")
        with writing():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # Locked before it has its name: nobody ever sees it free.
            descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(descriptor)
            new.unlink()
            raise ConfigurationError(
                f"Files in {path.parent} cannot be locked ({exc}), so nobody could tell whether "
                "a kernel's server still lives. Set JUPYTER_RUNTIME_DIR to a local folder."
            ) from exc
        new.replace(path)
        return cls(path, descriptor)


def _program(argv0: str) -> str:
    """What people call it: ``python -m jupyterlab`` says ``…/jupyterlab/__main__.py``."""
    path = Path(argv0)
    if path.name == "__main__.py":
        return path.parent.name
    return "python" if argv0 in ("", "-c", "-m") else path.name


_own: dict[Path, Lease] = {}
_lock = threading.Lock()
# A forked child is another owner. (It has the descriptors; closing them would be harmless.)
os.register_at_fork(after_in_child=_own.clear)


def _folder() -> Path:
    return runtime_folder() / FOLDER / "owners"


def own_lease() -> Lease:
    """This process's lease in the state folder, taken when it is first asked for."""
    with _lock:
        folder = _folder()
        lease = _own.get(folder)
        if lease is None:
            lease = Lease.take(uuid.uuid4().hex[:16])
        elif not lease.is_there():
            lease = Lease.take(lease.id)  # its kernels carry that name
        _own[folder] = lease
        return lease


def leases() -> list[str]:
    """The ids of all leases that somebody holds, or whose holder has died unattended."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(path.name for path in _folder().iterdir() if _ID.fullmatch(path.name))
    return []


def lease_is_held(lease_id: str) -> bool:
    """Whether its holder lives. Another process's check never looks like a holder."""
    if not _ID.fullmatch(lease_id):
        return False  # nobody's, or a record that was edited by hand
    own = _own.get(_folder())
    if own is not None and own.id == lease_id:
        return True
    return not wait_for_lease(lease_id, block=False)


def wait_for_lease(lease_id: str, *, block: bool = True) -> bool:
    """Wait, in this thread, until nobody holds it. Not `block`: only look whether nobody does.

    Never of this process's own lease: see above.
    """
    try:
        descriptor = os.open(_folder() / lease_id, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | (0 if block else fcntl.LOCK_NB))
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def lease_facts(lease_id: str) -> dict[str, Any]:
    """What its holder said of itself: ``pid``, ``program``, ``engines``; may be empty."""
    own = _own.get(_folder())
    if own is not None and own.id == lease_id:
        return dict(own.facts)
    with contextlib.suppress(OSError, ValueError, RecursionError):
        facts = json.loads((_folder() / lease_id).read_bytes())
        if isinstance(facts, dict):
            return facts
    return {}


def end_lease(lease_id: str) -> None:
    """Forget a dead owner of whom nothing is left."""
    (_folder() / lease_id).unlink(missing_ok=True)


_holds: list[int] = []  # descriptors, open to the end of the process


def hold(path: Path) -> bool:
    """Lock a file for the rest of this process's life; False when another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _holds.append(descriptor)
    return True
