"""Where things are kept: in Jupyter's runtime directory, or where a socket's path fits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from ..connection import SOCKET_PATH_LIMIT
from ..errors import ConfigurationError

FOLDER = "container-provisioner"
HALF_WRITTEN = ".new-"
LAST_RESORT = "/tmp"  # where a socket's path always fits
_HALF_DONE_SECONDS = 5.0  # between a file's first byte and its name there are milliseconds
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
    places = [(runtime_dir or runtime_folder()) / FOLDER]
    if os.environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        places.append(Path(os.environ["XDG_RUNTIME_DIR"]) / FOLDER)
    # mkdtemp would be a new place for each process; this one is found again after a restart.
    places += [Path(base) / f"{FOLDER}-{uid}" for base in (tempfile.gettempdir(), LAST_RESORT)]
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


def state_folder() -> Path:
    """What outlives a process: records, and the leases of those who own kernels. Private.

    Raises `ConfigurationError` where it cannot be made.
    """
    folder = runtime_folder() / FOLDER
    with writing():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Files that cannot be made in the state folder are a `ConfigurationError`."""
    try:
        yield
    except OSError as exc:
        raise ConfigurationError(
            f"Jupyter's runtime directory {runtime_folder()} cannot be used ({exc.strerror}). Set "
            "JUPYTER_RUNTIME_DIR to a folder that this user can write, on a local disk."
        ) from exc


def half_written() -> list[Path]:
    """Files in the state folder whose writers were killed before they could give them a name."""
    found = []
    for pattern in (".place-*", "owners/.*", f"*/{HALF_WRITTEN}*"):
        for path in (runtime_folder() / FOLDER).glob(pattern):  # not made again, if it is gone
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > _HALF_DONE_SECONDS:
                    found.append(path)
    return found


def sweep() -> None:
    """Remove what `half_written` finds."""
    for path in half_written():
        with contextlib.suppress(OSError):
            path.unlink()


def place_id() -> str:
    """A random name of the state folder, the same for everybody who uses this folder.

    Containers carry it. A path would not tell two folders apart that are called the same in two
    containers with one engine; who finds another name than its own leaves the container alone.
    """
    return _settled("place", 8)


@dataclass(frozen=True)
class Place:
    """Where a process keeps its state, looked up once.

    For a process that goes on when the folders are gone: to look them up again would make them
    again.
    """

    id: str
    root: Path  # of the private directories

    @classmethod
    def own(cls) -> Place:
        return cls(place_id(), private_root())


def place_secret() -> bytes:
    """A random key that only this folder's user can read. With it in a digest, nobody else can find
    out by guessing what was digested."""
    return bytes.fromhex(_settled("secret", 32))


def _settled(name: str, length: int) -> str:
    """Random bytes as hexadecimal digits; who asks first decides for all."""
    path = state_folder() / name
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        new = path.with_name(f".place-{uuid.uuid4().hex}")
        with writing():
            try:
                with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_hex(length))
                with contextlib.suppress(FileExistsError):
                    os.link(new, path)  # the first one wins, and is never seen half written
            finally:
                new.unlink(missing_ok=True)
        return path.read_text(encoding="ascii")


def write_private(path: Path, text: str) -> None:
    """Write a file of ours whole or not at all, 0600. Its folder is made when there is none."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=HALF_WRITTEN)  # 0600
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
