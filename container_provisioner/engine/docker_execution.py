"""A command in a running container, through the docker SDK."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from docker.utils.socket import STDOUT, frames_iter

from ..errors import EngineUnavailable
from .docker_errors import engine_errors

# The engine notes the exit code just after it has closed the stream.
_EXIT_CODE_SECONDS = 10.0
_LOOK_SECONDS = 0.02
_ERRORS_KEPT = 4096  # bytes of standard error; the last ones say what happened


class DockerExecution:
    """``POST /containers/{id}/exec`` and ``POST /exec/{id}/start``, over one connection.

    The command runs as the container's user, with no more rights than the kernel has.
    """

    def __init__(self, client: Any, container: str, argv: Sequence[str]) -> None:
        self._client = client
        self._doing = f"Running {argv[0]} in container {container[:12]}"
        with engine_errors(doing=self._doing):
            self._id = client.exec_create(container, list(argv), stdin=True)["Id"]
            # It holds the response, without which the SDK would close the connection.
            self._response = client.exec_start(self._id, socket=True)
        self._socket: socket.socket = self._response._sock
        self._socket.settimeout(None)  # a command may be silent for as long as it likes
        self._errors = b""

    def send(self, data: bytes) -> None:
        with engine_errors(doing=self._doing):
            self._socket.sendall(data)

    def end_input(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_WR)

    def __iter__(self) -> Iterator[bytes]:
        # ValueError: another thread has closed it between two reads.
        with contextlib.suppress(ValueError), engine_errors(doing=self._doing):
            for stream, data in frames_iter(self._response, False):  # type: ignore[no-untyped-call]
                if stream == STDOUT:
                    yield data
                else:
                    self._errors = (self._errors + data)[-_ERRORS_KEPT:]

    def errors(self) -> str:
        return self._errors.decode(errors="replace")

    def exit_code(self) -> int:
        deadline = time.monotonic() + _EXIT_CODE_SECONDS
        while time.monotonic() < deadline:
            with engine_errors(doing=self._doing):
                found = self._client.exec_inspect(self._id)
            if not found["Running"] and found["ExitCode"] is not None:
                return int(found["ExitCode"])
            time.sleep(_LOOK_SECONDS)
        raise EngineUnavailable(f"{self._doing}: the engine does not say how it ended.")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # whoever reads in another thread wakes up
        self._response.close()
        self._socket.close()
