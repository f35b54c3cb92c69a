"""A front end's first answer, without the waits that are for kernels which may not listen yet."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from jupyter_client.session import DELIM
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from ..provisioner import ContainerProvisioner

OPEN_SECONDS = 1.0  # then jupyter_server does it its own way
_ASK_AGAIN_SECONDS = 0.2


class WelcomingConnection(ZMQChannelsWebsocketConnection):
    """Opens as soon as the kernel's output is known to reach this front end.

    jupyter_server nudges a kernel that may not listen yet: it asks on two channels at once, which a
    kernel with one interpreter for both answers late, and looks every 50 ms whether it has heard of
    the kernel itself. One in a container listens when its start ends. One question, which it
    answers on iopub too, tells the rest.
    """

    _early: Sequence[list[bytes]] = ()  # what has arrived on iopub while it opened
    _asked: frozenset[str] = frozenset()  # our own questions

    def request_kernel_info(self) -> Any:
        """Nobody has to ask a kernel that has told it already, when it was claimed."""
        known = getattr(self.kernel_manager.provisioner, "kernel_info", None)
        if known and not hasattr(self.kernel_manager, "_kernel_info_future"):
            answer_beforehand(self.kernel_manager, known)
        return super().request_kernel_info()  # type: ignore[no-untyped-call]

    def connect(self) -> asyncio.Future[None] | None:  # type: ignore[override]
        # A kernel answers in several small messages. Without this each of them waits for a front
        # end to acknowledge the one before, which the other side's system puts off for 40 ms.
        self.websocket_handler.set_nodelay(True)
        connected = super().connect()
        if connected is not None:  # after what was kept for a page that was away
            connected.add_done_callback(lambda _: self._pass_on_early())
        return connected

    def _pass_on_early(self) -> None:
        early, self._early = self._early, ()
        for frames in early:
            if "iopub" in self.channels and not self.is_echo(frames):
                self.handle_outgoing_message(self.channels["iopub"], frames)

    def nudge(self) -> asyncio.Future[None]:
        # A busy kernel would answer late; jupyter_server asks it nothing.
        is_busy = getattr(self.kernel_manager, "execution_state", "") == "busy"
        if is_busy or not isinstance(self.kernel_manager.provisioner, ContainerProvisioner):
            return super().nudge()
        return asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        iopub, ports = self.channels["iopub"], list(self.kernel_manager.ports)
        self._early = await self.until_subscribed("shell", OPEN_SECONDS)
        if self._early:
            # As the server says itself of what it hears, a moment later: its subscription is older.
            if getattr(self.kernel_manager, "execution_state", "") == "starting":
                self.kernel_manager.execution_state = "idle"
            return
        # As jupyter_server: what was connected before a restart at new ports hears nothing.
        if not iopub.closed() and ports == list(self.kernel_manager.ports):
            await super().nudge()

    async def until_subscribed(self, channel: str, seconds: float) -> list[list[bytes]]:
        """Ask the kernel on `channel` until something arrives on iopub; returns what did.

        Until then the kernel may not know of this subscriber. Empty when nothing came in time.
        """
        # Not the page's own: the answer is not its.
        asking = getattr(self.kernel_manager, f"connect_{channel}")()
        iopub, early = self.channels["iopub"], []
        arrived = asyncio.Event()

        def receive(frames: list[bytes]) -> None:
            early.append(frames)
            arrived.set()

        iopub.on_recv(receive)
        try:
            for _ in range(round(seconds / _ASK_AGAIN_SECONDS)):
                # Each time another one: a kernel refuses a message that it has had.
                question = self.session.msg("kernel_info_request")
                self._asked |= {question["header"]["msg_id"]}
                self.session.send(asking, question)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(arrived.wait(), _ASK_AGAIN_SECONDS)
                    break
        finally:
            asking.close()
            if not iopub.closed():
                iopub.stop_on_recv()
        return early

    def is_echo(self, frames: list[bytes]) -> bool:
        """Whether it says no more than that the kernel is at a question of ours.

        What a thread prints or a widget shows meanwhile may have the same parent.
        """
        is_status = header(frames).get("msg_type") == "status"
        return is_status and header(frames, 1).get("msg_id") in self._asked


def answer_beforehand(manager: Any, kernel_info: Mapping[str, Any]) -> None:
    """What a websocket would ask the kernel and wait for."""
    manager._kernel_info_future = told = Future[Any]()
    told.set_result(kernel_info)


def header(frames: list[bytes], which: int = 0) -> dict[str, Any]:
    """The header; the parent's with 1."""
    try:
        found = json.loads(frames[frames.index(DELIM) + 2 + which])
    except (ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}
