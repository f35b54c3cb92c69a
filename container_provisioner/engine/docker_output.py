"""What a container wrote, told apart by stream: the SDK reads a log, but mixes the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import requests
from docker.errors import create_api_error_from_http_exception
from docker.types import CancellableStream

from .base import Output
from .docker_errors import engine_errors

_HEADER = 8  # bytes: the stream, three zeros, the length; in "Attach to a container" of the API
_STDERR = 2
_CHUNK = 65536


class DockerOutput:
    """A log that is being read. `close` may come from another thread than the one that reads."""

    def __init__(self, response: requests.Response, *, terminal: bool) -> None:
        parts = _plain(response) if terminal else _frames(response)
        self._stream: Any = CancellableStream(parts, response)

    def __iter__(self) -> Iterator[Output]:
        with engine_errors(doing="Reading a container's log"):
            yield from self._stream

    def close(self) -> None:
        with engine_errors(doing="Reading a container's log"):
            self._stream.close()


def open_output(
    client: Any, container: str, lines: int | None, follow: bool, timeout: float
) -> DockerOutput:
    """``GET /containers/{id}/logs``. `client` is the SDK's; what it raises, this raises."""
    terminal = bool(client.inspect_container(container)["Config"].get("Tty"))
    path = f"containers/{container}/logs"
    return open_log(client, path, lines, follow, timeout, terminal=terminal)


def open_log(
    client: Any, path: str, lines: int | None, follow: bool, timeout: float, *, terminal: bool
) -> DockerOutput:
    """The same of whatever has a log."""
    response = client.get(
        f"{client.base_url}/v{client.api_version}/{path}",
        params={
            "stdout": 1,
            "stderr": 1,
            "follow": int(follow),
            "tail": "all" if lines is None else lines,
        },
        stream=True,
        # A kernel may say nothing for hours. Its end ends the stream, and so does the engine's.
        timeout=(timeout, None) if follow else timeout,
    )
    try:
        response.raise_for_status()
    except requests.HTTPError as exc:
        create_api_error_from_http_exception(exc)
    return DockerOutput(response, terminal=terminal)


def _frames(response: requests.Response) -> Iterator[Output]:
    """The body as the engine frames it, one frame for each thing that was written."""
    read: Callable[[int], bytes] = response.raw.read
    while len(header := read(_HEADER)) == _HEADER:
        left = int.from_bytes(header[4:], "big")
        while left and (data := read(min(left, _CHUNK))):
            left -= len(data)
            yield Output(data=data, is_error=header[0] == _STDERR)


def _plain(response: requests.Response) -> Iterator[Output]:
    """A container with a terminal has one stream and no frames."""
    for data in response.iter_content(None):
        yield Output(data=data, is_error=False)
