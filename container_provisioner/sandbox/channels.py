"""Our ends of a kernel's channels, when its messages may be a stranger's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from zmq.utils.monitor import recv_monitor_message

from .answers import Output
from .hearing import Hearing

# What a message has besides its content, whatever the limit is.
_ENVELOPE_BYTES = 64 * 1024
# Not to wait for a kernel that takes no messages, when we close.
_LINGER_MS = 0


class Channels:
    """Reads at all times, so that nothing piles up, and keeps what belongs to a `Hearing`.

    A message with a part larger than twice the limit is not received: ZeroMQ closes the connection,
    for good. `broken` is then set, and others have to be made.
    """

    def __init__(self, manager: AsyncKernelManager, limit: int) -> None:
        self._manager, self._limit = manager, limit
        self._hearing: Hearing | None = None
        self.broken = asyncio.Event()
        self._connect()

    def _connect(self) -> None:
        self._context = zmq.asyncio.Context()
        # The default of sockets to come.
        self._context.setsockopt(zmq.MAXMSGSIZE, 2 * self._limit + _ENVELOPE_BYTES)
        self.client: AsyncKernelClient = self._manager.client(context=self._context)
        self.client.start_channels(stdin=False, hb=False, control=False)
        shell, iopub = self._sockets = (
            self.client.shell_channel.socket,
            self.client.iopub_channel.socket,
        )
        monitors = [each.get_monitor_socket(zmq.EVENT_DISCONNECTED) for each in self._sockets]
        self._readers = [
            asyncio.ensure_future(self._read(shell, Hearing.answer)),
            asyncio.ensure_future(self._read(iopub, Hearing.broadcast)),
            *(asyncio.ensure_future(self._watch(monitor)) for monitor in monitors),
        ]

    def reconnect(self) -> None:
        """After it was broken. What is said meanwhile is lost."""
        self.close()
        self._connect()

    def hear(
        self, tell: Callable[[Output], None] | None = None, *, limit: int | None = None
    ) -> Hearing:
        """From now on messages are for this hearing, and `broken` is about it."""
        self.broken.clear()
        self._hearing = Hearing(self.client.session, limit or self._limit, tell)
        return self._hearing

    def ignore(self) -> None:
        """What comes from now on is dropped unread."""
        self._hearing = None

    def close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        for socket in self._sockets:
            socket.disable_monitor()
        self.client.stop_channels()
        self._context.destroy(linger=_LINGER_MS)

    async def _read(self, socket: Any, pass_on: Callable[[Hearing, list[bytes]], None]) -> None:
        while True:
            frames = await socket.recv_multipart()
            if self._hearing is not None:
                pass_on(self._hearing, frames)
            # Receiving what is there already does not let anybody else have a turn.
            await asyncio.sleep(0)

    async def _watch(self, monitor: Any) -> None:
        with contextlib.suppress(zmq.ZMQError):  # it ends with its socket
            while True:
                await recv_monitor_message(monitor)
                self.broken.set()
