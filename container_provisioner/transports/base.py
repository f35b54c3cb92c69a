"""What a transport has to answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from ..connection import Endpoint
from ..engine.base import ContainerInfo


class Transport(Protocol):
    """Decides both ends of the five channels. Holds nothing: the kernel's directory does."""

    published_ports: tuple[int, ...]
    published_on: str  # the address of the engine's host that they are published on

    def host_endpoint(self, sockets: Path) -> Endpoint:
        """What the manager is told before the launch; `resolve` may correct it."""
        ...

    def kernel_endpoint(self) -> Endpoint:
        """What stands in the kernel's own connection file."""
        ...

    def resolve(self, sockets: Path, info: ContainerInfo) -> Endpoint:
        """Where the manager finds the running container's channels. Raises `EngineError`."""
        ...

    async def until_listening(self, endpoint: Endpoint) -> None:
        """Until the kernel has opened all five channels. The caller bounds the time."""
        ...

    async def until_closed(self, endpoint: Endpoint) -> None:
        """Until the kernel has let go of all five channels. The caller bounds the time."""
        ...


async def until_eof(connect: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    """Until the other end has closed, or cannot be connected to."""
    with contextlib.suppress(OSError):
        reader, writer = await connect
        try:
            while await reader.read(1024):
                pass
        finally:
            writer.close()
