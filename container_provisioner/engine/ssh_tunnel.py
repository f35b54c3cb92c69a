"""An engine's socket on another host, brought here by the user's own ssh.

One ssh process for all connections to that engine, however many there are: the SDK's own way takes
one for each, and such a connection knows no deadline. The forwarded socket is private, and goes
with this process, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import EngineUnavailable

DEFAULT_SOCKET = "/var/run/docker.sock"
OPEN_SECONDS = 30.0
END_SECONDS = 5.0

_OPTIONS = (
    "BatchMode=yes",  # nobody is there to be asked for a password
    "ExitOnForwardFailure=yes",
    "StreamLocalBindUnlink=yes",
    "StreamLocalBindMask=0177",
    # A connection that is dead is given up after a minute, and opened anew by the next call.
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)


# Ends when its input does, which is when this process ends; and clears away what it has made.
_FORWARD = 'folder=$0; "$@"; rm -rf "$folder"'


class SshTunnel:
    """To the engine at ``ssh://[USER@]HOST[:PORT][/PATH/OF/ITS.sock]``. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None
        self._local_url = ""
        self._opening = threading.Lock()

    def open(self) -> str:
        """Have it open, and return the URL of the socket here: another one when it was closed.

        Raises `EngineUnavailable` with what ssh says.
        """
        with self._opening:
            if self._process is None or self._process.poll() is not None:
                self._end()
                # A folder that only its owner may enter.
                self._start(Path(tempfile.mkdtemp(prefix="container-provisioner-ssh-")))
            return self._local_url

    def close(self) -> None:
        """It may be opened again."""
        with self._opening:
            self._end()

    def _start(self, folder: Path) -> None:
        parts, path = urlsplit(self._url), folder / "s"
        self._process = process = subprocess.Popen(  # noqa: S603 - the user's ssh, on the PATH
            [
                *("/bin/sh", "-c", _FORWARD, str(folder)),
                "ssh",
                *(word for option in _OPTIONS for word in ("-o", option)),
                *(["-p", str(parts.port)] if parts.port else []),
                *(["-l", parts.username] if parts.username else []),
                *("-L", f"{path}:{parts.path or DEFAULT_SOCKET}"),
                *("--", parts.hostname or "", "cat"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the server's terminal does not reach it
        )
        deadline = time.monotonic() + OPEN_SECONDS
        while not _answers(path):
            if process.poll() is not None or time.monotonic() > deadline:
                why = self._end() or "no connection"
                raise EngineUnavailable(f"Connecting to {self._url}: ssh says: {why}")
            time.sleep(0.02)
        self._local_url = f"unix://{path}"

    def _end(self) -> str:
        """What ssh said last."""
        process, self._process = self._process, None
        if process is None:
            return ""
        try:
            _, errors = process.communicate(timeout=END_SECONDS)  # closes its input
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
        words = errors.decode(errors="replace").strip().splitlines()
        return words[-1] if words else ""


def _answers(path: Path) -> bool:
    if not os.path.exists(path):  # noqa: PTH110 - never raises
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
