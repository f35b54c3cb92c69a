"""Where things are kept: in Jupyter's runtime directory, or where a socket's path fits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
import uuid
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir

from ..errors import ConfigurationError

# sun_path in sys/un.h, less the terminating null.
SOCKET_PATH_LIMIT = 107

FOLDER = "container-provisioner"
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
    """What outlives a process: records, and the leases of those who own kernels. Private."""
    folder = runtime_folder() / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def sweep() -> None:
    """Remove what writers left in the state folder that were killed before it had its name."""
    folder = state_folder()
    for pattern in (".place-*", "owners/.*", "records/.record-*"):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > _HALF_DONE_SECONDS:
                    path.unlink()


def place_id() -> str:
    """A random name of the state folder, the same for everybody who uses this folder.

    Containers carry it. A path would not tell two folders apart that are called the same in two
    containers with one engine; who finds another name than its own leaves the container alone.
    """
    path = state_folder() / "place"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        new = path.with_name(f".place-{uuid.uuid4().hex}")
        new.write_text(uuid.uuid4().hex[:16], encoding="ascii")
        with contextlib.suppress(FileExistsError):
            os.link(new, path)  # the first one wins, and is never seen half written
        new.unlink()
        return path.read_text(encoding="ascii")
