"""What a kernel said while no server was there, for the first front end that asks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ..guard import GuardUnavailable, Missed, ask_guard, take_missed
from .welcome import WelcomingConnection, header

CONFIRM_SECONDS = 3.0  # for the kernel to show that it sends to this front end too

_expected: set[str] = set()  # adopted kernels that no front end has been connected to since


def expect(kernel_id: str) -> None:
    """The next front end of this kernel gets what was recorded."""
    _expected.add(kernel_id)


def replaying(base: type) -> type:
    """The configured websocket class, and this ability."""
    return type(f"Replaying{base.__name__}", (ReplayingConnection, base), {})


class ReplayingConnection(WelcomingConnection):
    """Replays between the moment when it is subscribed and the first message that it passes on."""

    _replayed: frozenset[str] | None = None  # what was; None without a replay

    async def prepare(self) -> None:
        await super().prepare()  # type: ignore[no-untyped-call]
        if self.kernel_id in _expected:
            # The recorder stands in for a front end of the same name; the name is ours now.
            with contextlib.suppress(GuardUnavailable):
                await ask_guard("step-aside", kernel=self.kernel_id, start=False)

    def nudge(self) -> asyncio.Future[None]:
        nudged = super().nudge()
        if self.kernel_id not in _expected:
            return nudged
        _expected.discard(self.kernel_id)
        return asyncio.ensure_future(self._replay(nudged))

    async def _replay(self, nudged: asyncio.Future[None]) -> None:
        # A kernel that is silent now has been recorded all the same.
        with contextlib.suppress(asyncio.CancelledError, asyncio.TimeoutError):
            await nudged
        # It answers on its control channel while a cell runs.
        early = self._early or await self.until_subscribed("control", CONFIRM_SECONDS)
        self._early, self._replayed = (), frozenset()
        if "iopub" not in self.channels or self.channels["iopub"].closed():
            expect(self.kernel_id)  # it has gone again: the next one, then
            return
        missed = await take_missed(self.kernel_id)
        if missed.messages:
            self.log.info(
                "Kernel %s: replaying %d messages that no server was there for (%d dropped).",
                self.kernel_id,
                len(missed.messages),
                missed.dropped,
            )
        # Not for a limit on what a kernel may say in a second: it took longer.
        limit, self.limit_rate = self.limit_rate, False
        try:
            if self.kernel_manager.execution_state == "busy":
                # A kernel says so once, at the beginning of a cell; the front end knows no more.
                busy = self.session.msg("status", {"execution_state": "busy"})
                frames = list(self.session.serialize(busy, ident=b"status"))
                self.handle_outgoing_message("iopub", frames)
            if missed.dropped:
                self.handle_outgoing_message("iopub", self._notice(missed))
            for channel, frames in missed.messages:
                self.handle_outgoing_message(channel, frames)
            self._replayed = frozenset(
                _message_id(frames) for channel, frames in missed.messages if channel == "iopub"
            )
            for frames in early:
                self.handle_outgoing_message("iopub", frames)
        finally:
            self.limit_rate = limit

    def _notice(self, missed: Missed) -> list[bytes]:
        """Where the gap is, in the output of the cell that has it."""
        parent = next(
            (header(frames, 1) for channel, frames in missed.messages if channel == "iopub"), {}
        )
        text = f"[{missed.dropped} messages from before this were dropped: no server was there]\n"
        message = self.session.msg("stream", {"name": "stderr", "text": text}, parent=parent)
        return list(self.session.serialize(message, ident=b"stream"))

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        channel = stream if isinstance(stream, str) else getattr(stream, "channel", None)
        if channel == "iopub" and self._replayed is not None:
            frames = [bytes(part) for part in outgoing_msg]
            # JupyterLab would show the kernel as idle, whatever else it does.
            if self.is_echo(frames):
                return
            if _message_id(frames) in self._replayed:
                return  # it reached the recorder and us
            if not isinstance(stream, str):
                self._replayed = frozenset()  # in order: what follows is new too
        super().handle_outgoing_message(stream, outgoing_msg)


def _message_id(frames: list[bytes]) -> str:
    return str(header(frames).get("msg_id", ""))
