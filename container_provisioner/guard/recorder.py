"""Keeps what a kernel says while nobody listens, as much as there is room for."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, cast

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.session import DELIM

# Room for each kernel, in this process's memory. A day of a loop that prints every second, or
# twenty plots.
MESSAGES = 100_000
BYTES = 16 * 1024**2
# Front ends whose replies are received for them: those that spoke to the kernel last.
CLIENTS = 8

# As MappingKernelManager: these say nothing about what a user is doing.
_UNTRACKED = {
    "comm_info_request",
    "complete_request",
    "history_request",
    "inspect_request",
    "interrupt_request",
    "is_complete_request",
    "kernel_info_request",
    "shutdown_request",
    "debug_request",
}


class Recorder:
    """Follows one kernel's iopub channel from its launch on.

    Nothing is kept until `attended` becomes False. It listens all the time, because to subscribe
    takes milliseconds in which a kernel can say something.
    """

    def __init__(
        self, kernel_id: str, connection_info: Mapping[str, Any], log: logging.Logger
    ) -> None:
        self.kernel_id, self._log = kernel_id, log
        self.attended = True
        self.unattended_since = 0.0
        self.execution_state = "idle"
        self.last_activity = time.time()
        self.dropped = 0
        self._messages: deque[tuple[str, list[bytes]]] = deque()
        self._size = 0
        self._clients: OrderedDict[str, None] = OrderedDict()
        self._sockets: list[tuple[str, asyncio.Task[None], Any]] = []
        self._connect(connection_info)

    def follow(self, connection_info: Mapping[str, Any]) -> None:
        """The kernel may speak elsewhere now. What was recorded stays."""
        if _where(connection_info) != self._where:
            self.close()
            self._connect(connection_info)

    def _connect(self, connection_info: Mapping[str, Any]) -> None:
        self._where = _where(connection_info)
        self._client = AsyncKernelClient(context=zmq.asyncio.Context.instance())
        self._client.load_connection_info(cast(KernelConnectionInfo, dict(connection_info)))
        self._open("iopub", self._client.connect_iopub())

    def _open(self, channel: str, socket: Any) -> None:
        task = asyncio.ensure_future(self._receive(channel, socket))
        self._sockets.append((channel, task, socket))

    def unattend(self) -> None:
        """From now on nobody else listens."""
        if not self.attended:
            return
        self.attended, self.unattended_since = False, time.time()
        for session in self._clients:
            # A kernel sends its replies to the name under which the request came; there is nobody
            # else of that name now. `step_aside` gives it back.
            for channel in ("shell", "stdin"):
                connect = getattr(self._client, f"connect_{channel}")
                self._open(channel, connect(identity=session.encode("ascii")))

    def step_aside(self) -> None:
        """A front end is about to connect. Go on recording, but receive no replies for it."""
        self._close("shell", "stdin")

    def take(self) -> tuple[list[tuple[str, list[bytes]]], int]:
        """All that was recorded, and how many before that were dropped. Somebody listens now."""
        self.step_aside()
        self.attended = True
        messages, dropped = list(self._messages), self.dropped
        self._messages.clear()
        self._size = self.dropped = 0
        return messages, dropped

    @property
    def recorded(self) -> int:
        return len(self._messages)

    def idle_for(self, now: float) -> float:
        """Seconds for which nobody wanted anything of it; 0 while it is busy or attended."""
        if self.attended or self.execution_state == "busy":
            return 0.0
        return now - max(self.last_activity, self.unattended_since)

    def close(self) -> None:
        self._close("iopub", "shell", "stdin")

    def _close(self, *channels: str) -> None:
        for entry in [entry for entry in self._sockets if entry[0] in channels]:
            self._sockets.remove(entry)
            _, task, socket = entry
            task.cancel()
            socket.close(linger=0)

    async def _receive(self, channel: str, socket: Any) -> None:
        while True:
            frames = await socket.recv_multipart()
            try:
                is_news = channel != "iopub" or self._note(frames)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as exc:
                self._log.debug("Kernel %s said something strange: %s", self.kernel_id, exc)
                is_news = False
            if is_news and not self.attended:
                self._keep(channel, frames)

    def _note(self, frames: list[bytes]) -> bool:
        """Learn from a message. False: it is about a request that nobody waits for."""
        start = frames.index(DELIM) + 2
        header, parent = json.loads(frames[start]), json.loads(frames[start + 1])
        if header["msg_type"] == "status":
            state = json.loads(frames[start + 3])["execution_state"]
            if state == "starting":
                self.execution_state = "idle"
            elif parent.get("msg_type") not in _UNTRACKED:
                self.execution_state = state
        if parent.get("msg_type") in _UNTRACKED:
            # What a thread prints has the latest request for its parent, whichever that is.
            return header["msg_type"] not in ("status", "shutdown_reply")
        self.last_activity = time.time()
        session = parent.get("session")
        if isinstance(session, str) and session.isascii() and self.attended:
            self._clients[session] = None
            self._clients.move_to_end(session)
            if len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
        return True

    def _keep(self, channel: str, frames: list[bytes]) -> None:
        self._messages.append((channel, frames))
        self._size += sum(map(len, frames))
        while self._size > BYTES or len(self._messages) > MESSAGES:
            _, oldest = self._messages.popleft()
            self._size -= sum(map(len, oldest))
            self.dropped += 1


def _where(info: Mapping[str, Any]) -> list[Any]:
    """The part of connection info that makes another socket necessary."""
    names = ("transport", "ip", "iopub_port", "shell_port", "stdin_port", "curve_publickey")
    return [info.get(name) for name in names]
