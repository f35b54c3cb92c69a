"""A Podman that nobody serves, served: ``podman system service`` on a socket of this user's own.

It is started by the first call that finds nobody listening, by whichever process that is, and ends
by itself when nobody has been connected for `IDLE_SECONDS`; the next call starts it again.
Containers do not end with it. What is left of it then is an empty folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from docker.transport import UnixHTTPAdapter
from jupyter_core.paths import jupyter_runtime_dir

from ..connection import SOCKET_PATH_LIMIT
from ..errors import EngineUnavailable

IDLE_SECONDS = 30
START_SECONDS = 30.0  # the first of a user makes the storage, too

_LOOK_SECONDS = 0.02
_ATTEMPTS = 5
_SOCKET = "podman.sock"
_NOTE = "oom"  # that memory ran out, by the monitor of whichever container
_WORDS = 300  # of what it said when it did not start

# Nobody listens; or the service that did was about to end, and closed what had just been opened.
_UNREAD = {errno.ENOENT, errno.ECONNREFUSED}
_NOBODY = {*_UNREAD, errno.ECONNRESET, errno.EPIPE}


class PodmanService:
    """The one of this user and Jupyter. `idle`: seconds that it waits for company."""

    def __init__(self, folder: Path | None = None, *, idle: int | None = None) -> None:
        self.folder = folder or _usual_folder()
        self.socket = self.folder / _SOCKET
        self.url = f"unix://{self.socket}"
        self._idle = IDLE_SECONDS if idle is None else idle

    def ensure(self) -> None:
        """Have it listen. Of several callers, in any processes, one starts it.

        Raises `EngineUnavailable` with Podman's own words.
        """
        with self._locked():
            if self._listens():
                return
            program = shutil.which("podman")
            if program is None:
                raise EngineUnavailable(f"No answer at {self.url}: there is no podman to start.")
            self.socket.unlink(missing_ok=True)
            (self.folder / _NOTE).unlink(missing_ok=True)
            # Unlinked from the beginning, so that nothing of it is left.
            with tempfile.TemporaryFile() as said:
                service = subprocess.Popen(  # noqa: S603 - found in the user's PATH, as by a shell
                    [program, "system", "service", f"--time={self._idle}", self.url],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,  # no Ctrl-C of ours
                    cwd=self.folder,  # where 4.3 leaves its notes, and not beside the notebook
                )
                # It may end before this process does, and is then to be no zombie.
                threading.Thread(target=service.wait, name="podman-service", daemon=True).start()
                deadline = time.monotonic() + START_SECONDS
                while not self._listens():
                    if service.poll() is not None or time.monotonic() > deadline:
                        said.seek(0)
                        words = " ".join(said.read().decode(errors="replace").split())[-_WORDS:]
                        raise EngineUnavailable(
                            f"'podman system service' does not run on {self.url}: "
                            f"{words or 'it says nothing'}."
                        )
                    time.sleep(_LOOK_SECONDS)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
            except OSError:
                return False
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process and thread at a time. The folder itself is locked: no file is left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            status = os.fstat(folder)
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise EngineUnavailable(
                    f"No Podman was started: {self.folder} is not a private directory of uid "
                    f"{os.getuid()}. Remove it, or correct its owner and mode."
                )
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


class ServiceAdapter(UnixHTTPAdapter):
    """For the SDK's session: what finds nobody listening starts the service, and is sent again.

    Nothing has been done then: a service that ends has let its requests end.
    """

    def __init__(self, service: PodmanService, **options: Any) -> None:
        super().__init__(f"http+unix://{service.socket}", **options)
        self._service = service

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        for _ in range(_ATTEMPTS):
            try:
                return super().send(request, *args, **options)
            except requests.ConnectionError as exc:
                # Of a stream, such as a build's files, the beginning may have been read.
                whole = isinstance(request.body, (bytes, str, type(None)))
                if not _found_nobody(exc, _NOBODY if whole else _UNREAD):
                    raise
            # One that is about to end may take a connection, and close it without a word.
            time.sleep(_LOOK_SECONDS)
            self._service.ensure()
        return super().send(request, *args, **options)


def is_installed(environ: Mapping[str, str]) -> bool:
    """Whether there is a Podman that could be served here."""
    path = environ.get("PATH", "")
    return sys.platform == "linux" and shutil.which("podman", path=path) is not None


def _found_nobody(exc: BaseException | None, signs: set[int]) -> bool:
    seen: set[int] = set()
    found = [exc]
    while found:
        exc = found.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        if isinstance(exc, OSError) and exc.errno in signs:
            return True
        # RemoteDisconnected is a ConnectionResetError without a number.
        if isinstance(exc, ConnectionResetError) and errno.ECONNRESET in signs:
            return True
        found += [exc.__cause__, exc.__context__]
        found += [arg for arg in exc.args if isinstance(arg, BaseException)]
    return False


def _usual_folder() -> Path:
    """Below Jupyter's runtime directory, or where a socket's path fits."""
    name = "container-provisioner"
    for folder in (
        Path(jupyter_runtime_dir()).absolute() / name / "podman",
        Path(os.environ.get("XDG_RUNTIME_DIR") or "/run") / f"{name}-podman",
    ):
        if len(os.fsencode(folder / _SOCKET)) <= SOCKET_PATH_LIMIT:
            return folder
    return Path("/tmp", f"{name}-podman-{os.getuid()}")
