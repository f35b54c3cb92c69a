"""What a transport has to answer, and how often one looks whether the kernel listens."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..connection import Endpoint
from ..engine.base import ContainerInfo

# Between two looks at whether the kernel listens. A look costs microseconds for ipc, a connection
# to the kernel's own port for the others; the engine is not asked.
LOOK_SECONDS = 0.01


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

    async def listening(self, endpoint: Endpoint) -> bool:
        """Whether the kernel has opened all five channels."""
        ...
