"""Ask a running kernel who it is: only one with our key can answer, and only to us."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.connect import KernelConnectionInfo

# A kernel answers in milliseconds, on its control channel even while a cell runs.
ANSWER_SECONDS = 5.0
# An idle kernel answers on both channels at the same time.
IDLE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """`kernel_info` is None when no signed answer came; `beats` is what the heartbeat said."""

    kernel_info: Mapping[str, Any] | None
    beats: bool
    is_busy: bool = False  # its shell does not answer: something runs


async def greet(connection_info: Mapping[str, Any]) -> Greeting:
    """Send ``kernel_info_request`` on the control and shell channels, and a heartbeat.

    See "Messaging in Jupyter". Returns with the first answer, or after `ANSWER_SECONDS`.
    """
    client = AsyncKernelClient(context=zmq.asyncio.Context.instance())
    client.load_connection_info(cast(KernelConnectionInfo, dict(connection_info)))
    sockets = {
        "control": client.connect_control(),
        "shell": client.connect_shell(),
        "hb": client.connect_hb(),
    }
    try:
        for channel in ("control", "shell"):
            client.session.send(sockets[channel], "kernel_info_request")
        sockets["hb"].send(b"ping", zmq.NOBLOCK)
        beat = asyncio.ensure_future(_heard(sockets["hb"]))
        answers = [
            asyncio.ensure_future(_answer(client, sockets[channel]))
            for channel in ("control", "shell")
        ]
        done, _ = await asyncio.wait(
            answers, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        info = next((answer.result() for answer in done), None)
        _, shell = answers
        if info is not None:
            await asyncio.wait([shell], timeout=IDLE_SECONDS)
        beats, is_busy = info is not None or beat.done(), not shell.done()
        for task in (beat, *answers):
            task.cancel()
        await asyncio.gather(beat, *answers, return_exceptions=True)
        return Greeting(kernel_info=info, beats=beats, is_busy=is_busy)
    finally:
        for socket in sockets.values():
            socket.close(linger=0)


async def _heard(socket: Any) -> None:
    await socket.recv_multipart()


async def _answer(client: AsyncKernelClient, socket: Any) -> Mapping[str, Any]:
    """The content of the first message that is signed with our key."""
    while True:
        frames = await socket.recv_multipart()
        try:
            _, parts = client.session.feed_identities(frames)
            message = client.session.deserialize(parts)
        except ValueError:
            continue  # another key: whoever sent that is not the kernel we know
        if message["msg_type"] == "kernel_info_reply":
            return dict(message["content"])
