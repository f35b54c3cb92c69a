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
from .gate import Gate
from .hearing import Hearing

# What a message has besides its content, whatever the limit is.
_ENVELOPE_BYTES = 64 * 1024
# Not to wait for a kernel that takes no messages, when we close.
_LINGER_MS = 0


class Channels:
    """Reads at all times, so that nothing piles up, and keeps what belongs to a `Hearing`.

    A message that is larger than twice the limit is not received: the connection is closed, for
    good. `broken` is then set, and others have to be made. (Of encrypted messages only a part's
    size can be known before it is here.)
    """

    client: AsyncKernelClient

    def __init__(self, manager: AsyncKernelManager, limit: int) -> None:
        self._manager, self._limit = manager, limit
        self._hearing: Hearing | None = None
        self._undo = contextlib.ExitStack()
        self.broken = asyncio.Event()

    async def connect(self) -> None:
        """Whatever becomes of it, `close` undoes it."""
        largest = 2 * self._limit + _ENVELOPE_BYTES
        gate: Gate | None = None
        if self._manager.curve_secretkey is None:  # else there is nothing to be seen in between
            gate = Gate(largest)
            self._undo.callback(gate.close)
            ports = (self._manager.shell_port, self._manager.iopub_port)
            await gate.open(self._manager.get_connection_info(), ports)
        context = zmq.asyncio.Context()
        self._undo.callback(context.destroy, linger=_LINGER_MS)
        # The default of sockets to come.
        context.setsockopt(zmq.MAXMSGSIZE, largest)
        address = gate.address if gate is not None else {}
        self.client = self._manager.client(context=context, **address)
        self._undo.callback(self.client.stop_channels)
        self.client.start_channels(stdin=False, hb=False, control=False)
        for socket, pass_on in (
            (self.client.shell_channel.socket, Hearing.answer),
            (self.client.iopub_channel.socket, Hearing.broadcast),
        ):
            monitor: Any = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._undo.callback(socket.disable_monitor)
            for work in (self._read(socket, pass_on), self._watch(monitor)):
                self._undo.callback(asyncio.ensure_future(work).cancel)
        if gate is not None:
            await gate.until_connected()
        self.broken.clear()

    async def reconnect(self) -> None:
        """After it was broken. What is said meanwhile is lost."""
        self.close()
        await self.connect()

    def hear(self, tell: Callable[[Output], None] | None = None) -> Hearing:
        """From now on messages are for this hearing."""
        self._hearing = Hearing(self.client.session, self._limit, tell)
        return self._hearing

    def ignore(self) -> None:
        """What comes from now on is dropped unread."""
        self._hearing = None

    def close(self) -> None:
        self._undo.close()

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
