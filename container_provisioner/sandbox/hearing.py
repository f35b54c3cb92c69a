"""What a kernel says about one execution, taken from messages that may be anybody's.

The code that is run has the kernel's keys and sockets: it can send whatever it likes, in the name
of any request. So a message is looked at as a stranger's: what makes no sense is left out, and
nothing in it leads to an exception here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from jupyter_client.session import Session

from .answers import Display, Output, Stream

_DISPLAYS = ("display_data", "update_display_data")
# A status has a few hundred: it is read after the limit, too.
_STATUS_BYTES = 4096


class Hearing:
    """One execution: set `request` to the id of its message once it is sent."""

    def __init__(self, session: Session, limit: int, tell: Callable[[Output], None] | None) -> None:
        self._session, self._tell = session, tell
        self._left = limit  # bytes
        self.request = ""
        self.outputs: list[Output] = []
        self.result: Display | None = None
        self.reply: Mapping[str, Any] = {}
        self.replied = asyncio.Event()
        self.idle = asyncio.Event()  # and has said all there is to say
        self.flooded = asyncio.Event()
        self.failure: Exception | None = None  # of `tell`
        self.failed = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        return self.replied.is_set() and self.idle.is_set()

    async def complete(self, patience: float | None = None) -> None:
        """Until the reply and all that was said have come; for the latter only `patience` seconds
        after the former, for a kernel that says too much drops messages, maybe the last one."""
        await self.replied.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.idle.wait(), patience)

    def broadcast(self, frames: list[bytes]) -> None:
        """A message of the iopub channel. Past the limit only that the kernel is idle counts; of
        text that goes past it, the beginning is kept."""
        size = sum(map(len, frames))
        if self.flooded.is_set() and size > _STATUS_BYTES:
            return
        kind, content = self._read(frames)
        if not kind:
            return  # of an earlier execution, perhaps: it is not kept, and does not count
        left = self._left
        self._left = max(0, left - size)
        if kind == "status" and content.get("execution_state") == "idle":
            self.idle.set()
        elif not self.flooded.is_set() and (size <= left or kind == "stream"):
            self._take(kind, content, left)
        if size > left:
            self.flooded.set()

    def answer(self, frames: list[bytes]) -> None:
        """A message of the shell channel."""
        kind, content = self._read(frames)
        if kind.endswith("_reply") and not self.replied.is_set():
            self.reply = content
            self.replied.set()

    def _read(self, frames: list[bytes]) -> tuple[str, Mapping[str, Any]]:
        """Its type and content; empty for what is not about our request, or makes no sense."""
        try:
            _, parts = self._session.feed_identities(frames)
            message = self._session.deserialize(parts)
            if message["parent_header"]["msg_id"] == self.request:
                kind, content = message["header"]["msg_type"], message["content"]
                if isinstance(kind, str) and isinstance(content, dict):
                    return kind, content
        except Exception:  # noqa: BLE001, S110 - it is for its sender to have it make sense
            pass
        return "", {}

    def _take(self, kind: str, content: Mapping[str, Any], left: int) -> None:
        output: Output
        if kind == "stream":
            name, text = content.get("name"), content.get("text")
            if name not in ("stdout", "stderr") or not isinstance(text, str):
                return
            output = Stream(name=name, text=readable(text[:left]))
        elif kind in (*_DISPLAYS, "execute_result") and isinstance(content.get("data"), dict):
            metadata = content.get("metadata")
            output = Display(
                data=cast(dict[str, Any], content["data"]),
                metadata=metadata if isinstance(metadata, dict) else {},
            )
        else:
            return
        if kind == "execute_result":
            self.result = cast(Display, output)
        else:
            self.outputs.append(output)
        if self._tell is not None and not self.failed.is_set():
            try:
                self._tell(output)
            except Exception as exc:  # noqa: BLE001 - raised where the execution is waited for
                self.failure = exc
                self.failed.set()


def readable(text: object) -> str:
    """Empty for what is no text. Halves of characters, which JSON can have and nothing that
    writes text takes, are replaced."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else ""
