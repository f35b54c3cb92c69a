"""What a transport has to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..connection import Endpoint
from ..engine.base import ContainerInfo


class Transport(Protocol):
    """Decides both ends of the five channels. Holds nothing: the kernel's directory does."""

    published_ports: tuple[int, ...]

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
