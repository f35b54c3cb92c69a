"""A relay between a kernel's channels and ours, which counts what a message has before it is whole.

ZeroMQ bounds a message's parts, each by itself, and not their number: a message of very many parts
would be put together in our memory. It is counted here, and when it is too large the connection is
closed. Nothing else is changed, or understood; the framing is ZMTP 3's (rfc.zeromq.org/spec/23).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..store import private_root

_GREETING, _VERSION_AT, _VERSION = 64, 10, 3
_MORE, _LONG = 0x01, 0x02
# What ZeroMQ and Python need besides for a part, however small it is.
_PART_BYTES = 256
_PIECE = 64 * 1024


class TooLarge(Exception):
    """A message is, or what comes is no ZMTP of this version."""


class Frames:
    """Reads along in one direction of a connection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # bytes of one message
        self._head = bytearray()
        self._is_greeted = False
        self._skip = 0  # of the present frame
        self._size = 0  # of the present message

    def feed(self, data: bytes) -> None:
        """Raises `TooLarge`, at the beginning of the frame that is too much."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            self._head.append(data[at])
            at += 1
            if not self._is_greeted:
                self._greet()
            elif len(self._head) == (9 if self._head[0] & _LONG else 2):
                self._begin_frame(self._head[0], int.from_bytes(self._head[1:], "big"))
                self._head.clear()

    def _greet(self) -> None:
        if len(self._head) < _GREETING:
            return
        if self._head[_VERSION_AT] != _VERSION:
            raise TooLarge
        self._is_greeted = True
        self._head.clear()

    def _begin_frame(self, flags: int, size: int) -> None:
        self._size += size + _PART_BYTES
        if self._size > self._limit:
            raise TooLarge
        self._skip = size
        if not flags & _MORE:
            self._size = 0


class Gate:
    """Relays for a kernel's ports, each for one connection. `address` is the kernel's, as ours."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._folder = Path(tempfile.mkdtemp(prefix=".gate-", dir=private_root()))  # 0700
        self._servers: list[asyncio.Server] = []
        self._relays: set[asyncio.Task[None]] = set()
        self._connected: dict[int, asyncio.Event] = {}

    @property
    def address(self) -> dict[str, str]:
        return {"transport": "ipc", "ip": str(self._folder / "g")}

    async def open(self, kernel: Mapping[str, Any], ports: Iterable[int]) -> None:
        """`kernel` is its connection info."""
        for port in ports:
            self._connected[port] = asyncio.Event()
            accept = partial(self._accept, kernel, port)
            self._servers.append(
                await asyncio.start_unix_server(accept, f"{self._folder}/g-{port}", limit=_PIECE)
            )

    async def until_connected(self) -> None:
        """Then the folder goes: nothing is left of it when this process is killed."""
        for connected in self._connected.values():
            await connected.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for relay in self._relays:
            relay.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(
        self,
        kernel: Mapping[str, Any],
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._connected[port].set()
        relay = asyncio.ensure_future(self._relay(kernel, port, reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(
        self,
        kernel: Mapping[str, Any],
        port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        there: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            if kernel["transport"] == "ipc":
                source, there = await asyncio.open_unix_connection(f"{kernel['ip']}-{port}")
            else:
                source, there = await asyncio.open_connection(kernel["ip"], port)
            pumps = [
                asyncio.ensure_future(_pump(source, writer, Frames(self._limit))),
                asyncio.ensure_future(_pump(reader, there, None)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the kernel has ended; our end is closed, and that is seen
        finally:
            for pump in pumps:
                pump.cancel()
            for end in filter(None, (writer, there)):
                end.close()


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, frames: Frames | None
) -> None:
    try:
        while data := await source.read(_PIECE):
            if frames is not None:
                frames.feed(data)
            target.write(data)
            await target.drain()
    except (OSError, TooLarge):
        return
