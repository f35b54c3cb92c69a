"""Why a kernel died, said in the page: below the cell that ran, in every front end of the kernel.

A front end is told by jupyter_server that a kernel restarts or is dead, and no more. What it shows
for certain, whichever it is, is what a cell prints; so that is what a notice looks like.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from typing import Any

from jupyter_client.session import DELIM
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from ..provisioner import ContainerProvisioner

RESTARTED = "A new one takes its place; all variables are gone."
GIVEN_UP = "It died each time that it was started again, and stays ended now."


class FrontEnds:
    """Of one kernel, by session: JupyterLab has many connections in turn, one after each death."""

    def __init__(self) -> None:
        self.ran: dict[str, dict[str, Any]] = {}  # each one's latest request that ran, newest last
        self._waiting: set[str] = set()  # who may want an answer of the kernel that runs
        self._untold: set[str] = set()  # who may still want one of a kernel that died

    def runs(self, request: dict[str, Any]) -> None:
        session = request["session"]
        self.ran.pop(session, None)
        self.ran[session] = request
        self._waiting.add(session)

    def lose_kernel(self) -> None:
        self._untold |= self._waiting
        self._waiting = set()

    def take_untold(self, session: str) -> bool:
        """Whether it has to be told of a death. From now on it has not."""
        untold = session in self._untold
        self._untold.discard(session)
        return untold


_front_ends: weakref.WeakKeyDictionary[Any, FrontEnds] = weakref.WeakKeyDictionary()  # by manager


def noticing(base: type) -> type:
    """The configured websocket class, and this ability."""
    return type(f"Noticing{base.__name__}", (NoticingConnection, base), {})


class NoticingConnection(ZMQChannelsWebsocketConnection):
    """Sends a notice just before the status that makes a front end forget what was running.

    Who was away meanwhile, as a laptop that slept, is sent both when it is back.
    """

    def connect(self) -> asyncio.Future[None] | None:  # type: ignore[override]
        manager, session = self.kernel_manager, self.session_id
        if manager not in _front_ends:
            _front_ends[manager] = FrontEnds()
            manager.add_restart_callback(_front_ends[manager].lose_kernel)  # before our own
        connected = super().connect()
        # Only once, whatever comes of it: that status makes JupyterLab connect again.
        is_untold = _front_ends[manager].take_untold(session)
        if connected is not None and is_untold and self._why_it_died:
            # After what was kept for it, which is what the kernel printed last.
            connected.add_done_callback(lambda _: self.on_kernel_restarted())
        return connected

    def on_kernel_restarted(self) -> None:
        """It died, and the restarter starts another."""
        _front_ends[self.kernel_manager].take_untold(self.session_id)
        self._say_why(RESTARTED)
        super().on_kernel_restarted()  # type: ignore[no-untyped-call]

    def on_restart_failed(self) -> None:
        self._say_why(GIVEN_UP)
        super().on_restart_failed()  # type: ignore[no-untyped-call]

    @property
    def _why_it_died(self) -> str:
        """Empty for a kernel that is not ours, and for one that somebody has restarted since."""
        provisioner = getattr(self.kernel_manager, "provisioner", None)
        return str(provisioner.reason) if isinstance(provisioner, ContainerProvisioner) else ""

    def _say_why(self, outcome: str) -> None:
        iopub = self.channels.get("iopub")
        if not self._why_it_died or iopub is None or iopub.closed():
            return
        iopub.flush()  # what the kernel printed last comes first, and may be what ran last
        ran = _front_ends[self.kernel_manager].ran
        # Who gave the server no name, or another than its messages have, gets the newest of all.
        parent = ran.get(self.session_id) or next(reversed(ran.values()), {})
        content = {"name": "stderr", "text": f"{self._why_it_died}\n{outcome}\n"}
        message = self.session.msg("stream", content, parent=parent)
        # Not for a limit on what a kernel may say in a second, which may be reached.
        limit, self.limit_rate = self.limit_rate, False
        try:
            frames = list(self.session.serialize(message, ident=b"stream"))
            self.handle_outgoing_message("iopub", frames)
        finally:
            self.limit_rate = limit

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        channel = stream if isinstance(stream, str) else getattr(stream, "channel", None)
        if channel == "iopub":
            self._look_for_a_request(outgoing_msg)
        super().handle_outgoing_message(stream, outgoing_msg)

    def _look_for_a_request(self, frames: list[Any]) -> None:
        """A kernel repeats what it is about to run. Of other messages, only the header is read."""
        try:
            header = frames.index(DELIM) + 2
            if b"execute_input" in bytes(frames[header]):
                _front_ends[self.kernel_manager].runs(json.loads(bytes(frames[header + 1])))
        except (ValueError, LookupError, TypeError):
            pass  # not as the protocol has it: it is of no use here
