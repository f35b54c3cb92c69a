"""A restart in a new container: the old one makes way while its manager still waits for its end.

A kernel that was told to end lets go of its channels when everything of the user's has run, some
hundredths of a second before its engine reports it. From then on no client can reach it; the new
container may have its name, and what is left of the old one is removed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from . import labels
from .errors import ContainerGone, EngineError
from .exits import ExitStatus
from .handle import KernelContainer
from .store import own_lease


class MakingWay:
    """One container's last moments. `closed` ends when its kernel has let go of its channels."""

    def __init__(self, container: KernelContainer, closed: Coroutine[Any, Any, None]) -> None:
        self.container = container
        self._closed = asyncio.ensure_future(closed)
        self._aside: asyncio.Future[None] | None = None
        self._removal: asyncio.Future[None] | None = None

    @property
    def status(self) -> ExitStatus | None:
        """How it ended; as if by itself, while the engine has not said."""
        if self.container.status is None and self._closed.done():
            return ExitStatus(code=0)
        return self.container.status

    async def wait(self) -> None:
        """Until the kernel can be reached no more. May be cancelled and called again."""
        ended = asyncio.ensure_future(self.container.wait())
        try:
            await asyncio.wait([self._closed, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

    def begin(self) -> None:
        """Put the container aside and remove it. Once, however often it is called."""
        if self._aside is None:
            self._closed.cancel()
            self.container.end_requested = True
            self._aside = asyncio.ensure_future(self._put_aside())
            self._removal = asyncio.ensure_future(self._remove(self._aside))

    async def name_is_free(self) -> None:
        """Raises `EngineError` when the engine does not do it."""
        self.begin()
        if self._aside is not None:
            await asyncio.wait([self._aside])
            self._aside.result()

    async def done(self) -> None:
        """Until it is removed; quiet."""
        self.begin()
        if self._removal is not None:
            await asyncio.wait([self._removal])

    async def _put_aside(self) -> None:
        identity = self.container.identity
        name = labels.aside_name(identity.container_name, own_lease().id)
        with contextlib.suppress(ContainerGone):
            await self.container.engine.rename(identity.container_id, name)

    async def _remove(self, aside: asyncio.Future[None]) -> None:
        await asyncio.wait([aside])
        try:
            await self.container.remove()
        except EngineError as exc:
            self.container.log.warning(
                "Container %s is left to the guard: %s", self.container.identity.container_id, exc
            )
            self.container.unfollow()
