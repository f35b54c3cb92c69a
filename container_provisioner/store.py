"""What is kept on disk: a private directory for each kernel, and a record of how to find it.

The directory is short-lived and may be in ``/tmp``; a unix socket's path has room for 107 bytes.
The record stands in Jupyter's runtime directory and outlives this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

from .errors import ConfigurationError, KernelNotAdoptable
from .policy import NOBODY, KernelUser

# sun_path in sys/un.h, less the terminating null.
SOCKET_PATH_LIMIT = 107

_FOLDER = "container-provisioner"
LAST_RESORT = "/tmp"  # where a socket's path always fits
_LONGEST_SOCKET = "/0123456789ab/sockets/k-5"


def short_name(kernel_id: str) -> str:
    """Twelve hexadecimal digits for a kernel id of any length and any characters."""
    return hashlib.sha256(kernel_id.encode()).hexdigest()[:12]


def runtime_folder() -> Path:
    """Jupyter's runtime directory. Holds the server's token and the keys of all its kernels."""
    return Path(jupyter_runtime_dir()).absolute()


def private_root(runtime_dir: Path | None = None) -> Path:
    """The folder of the kernels' directories: the first place where a socket's path fits.

    It belongs to this user and nobody else may enter. Raises `ConfigurationError` when no place
    will do.
    """
    uid = os.getuid()
    places = [(runtime_dir or runtime_folder()) / _FOLDER]
    if os.environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        places.append(Path(os.environ["XDG_RUNTIME_DIR"]) / _FOLDER)
    # mkdtemp would be a new place for each process; this one is found again after a restart.
    places += [Path(base) / f"{_FOLDER}-{uid}" for base in (tempfile.gettempdir(), LAST_RESORT)]
    problems = []
    for place in places:
        if len(os.fsencode(str(place) + _LONGEST_SOCKET)) > SOCKET_PATH_LIMIT:
            problems.append(f"{place} is too long for a unix socket's path")
            continue
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = place.lstat()
        except OSError as exc:
            problems.append(str(exc))
            continue
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
            problems.append(f"{place} is not a private directory of uid {uid}")
            continue
        return place
    raise ConfigurationError(
        "No place for the kernel's sockets: "
        + "; ".join(problems)
        + ". Set JUPYTER_RUNTIME_DIR to a short path of your own."
    )


class KernelDirectory:
    """The private directory of one kernel: its connection file, its environment, its sockets.

    All of it is mounted read-only into the container but for ``sockets``: what we write, the
    kernel cannot replace by a link to something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sockets = path / "sockets"

    @classmethod
    def of(cls, kernel_id: str) -> KernelDirectory:
        """The kernel's directory, which need not exist yet."""
        return cls(private_root() / short_name(kernel_id))

    @classmethod
    def recorded(cls, path: object, kernel_id: str) -> KernelDirectory:
        """As a record has it. Raises `KernelNotAdoptable` for one that is not ours to remove."""
        folder = Path(str(path))
        if not folder.is_absolute() or folder.name != short_name(kernel_id):
            raise KernelNotAdoptable(f"{folder} is not the directory of kernel {kernel_id}.")
        return cls(folder)

    def create(self, user: KernelUser) -> None:
        """Make it afresh, for that user; a predecessor's leftovers are removed."""
        self.remove()
        for path in (self.path, self.sockets, self.path / "resources"):
            path.mkdir(mode=0o700)
            self._give(path, user)
        self.open_sockets(user)

    def write(self, name: str, text: str, user: KernelUser, *, mode: int = 0o600) -> None:
        """Write a file whole or not at all, readable for that user only (unless `mode` says)."""
        new = self.path / f".{name}.new"
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        # As bytes, because a variable's value need not be text; Python keeps such as surrogates.
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(os.fsencode(text))
        new.chmod(mode)  # the umask may have taken bits away
        self._give(new, user)
        new.replace(self.path / name)

    def open_sockets(self, user: KernelUser) -> None:
        """Let the kernel make its sockets, and remove those of an earlier run.

        A socket that is there then means that somebody listens.
        """
        if os.getuid() == 0:
            # Anybody's but the kernel's: an owner could undo `close_sockets`. Only root can enter
            # the directory above.
            owner = 0 if user.uid != 0 else NOBODY
            os.chown(self.sockets, owner, owner)
            self.sockets.chmod(0o777)
        for path in self.sockets.iterdir():
            if path.is_dir() and not path.is_symlink():
                _remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def close_sockets(self) -> None:
        """The kernel has made its sockets; let it make nothing else there, on the host's disk.

        Only root can: a kernel with our own uid owns whatever directory it may make a socket in.
        """
        if os.getuid() == 0:
            self.sockets.chmod(0o755)

    def remove(self) -> None:
        """Remove all of it. Quiet when there is nothing."""
        _remove_tree(self.path)

    @staticmethod
    def _give(path: Path, user: KernelUser) -> None:
        if os.getuid() == 0:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _remove_tree(path: Path) -> None:
    """Remove a directory, whatever modes a kernel gave to what is below. Follows no link."""
    _open_up(path)
    for folder, names, _ in os.walk(path):
        for name in names:
            _open_up(Path(folder, name))
    shutil.rmtree(path, ignore_errors=True)


def _open_up(path: Path) -> None:
    with contextlib.suppress(OSError):
        if not path.is_symlink():
            path.chmod(0o700)


class RecordStore:
    """One JSON file for each kernel, 0600, replaced atomically: the provisioner's info."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or runtime_folder() / _FOLDER / "records"

    def path(self, kernel_id: str) -> Path:
        return self.folder / f"{short_name(kernel_id)}.json"

    def write(self, kernel_id: str, info: Mapping[str, Any]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(info, indent=2)
        descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".record-")  # 0600
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            Path(name).replace(self.path(kernel_id))
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def read(self, kernel_id: str) -> dict[str, Any]:
        """Raises `KernelNotAdoptable` for a record that is missing, torn or of another kernel."""
        path = self.path(kernel_id)
        try:
            info = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as exc:
            raise KernelNotAdoptable(f"The record {path} cannot be read: {exc}.") from exc
        if not isinstance(info, dict) or info.get("kernel_id") != kernel_id:
            raise KernelNotAdoptable(f"The record {path} is not one of kernel {kernel_id}.")
        return info

    def remove(self, kernel_id: str) -> None:
        self.path(kernel_id).unlink(missing_ok=True)
