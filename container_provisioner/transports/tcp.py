"""Fixed ports inside, outside ports that the engine chose: on its host's loopback, or, where that
is another host than this one, on all its addresses.

The engine chooses when the container starts, so nobody else can take a port in between; they are
read back then, and again after every restart, because they change.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from ..connection import TCP_PORTS, Endpoint
from ..engine.base import ContainerInfo
from ..errors import EngineError
from ..topology import LOOPBACK
from .base import until_eof

ANY = "0.0.0.0"  # noqa: S104 - inside the container's own network namespace

# The first byte that a ZeroMQ socket sends to whoever connects (ZMTP 3.1, "Greeting"). The engine
# accepts connections to a published port before the kernel listens, so connecting proves nothing.
_GREETING = b"\xff"
_GREETING_SECONDS = 0.5
LOOK_SECONDS = 0.01  # between two connections to a port where nobody answers yet


class TcpTransport:
    """For kernels that do not speak ipc, and for engines on other hosts.

    Needs a network with a way to the engine's host. `address` is that host's, empty for this one.
    """

    published_ports: tuple[int, ...] = tuple(TCP_PORTS.values())

    def __init__(self, address: str = "") -> None:
        self.address = address or LOOPBACK
        # All addresses of another host: which of them we know it by, only that host could say.
        self.published_on = LOOPBACK if self.address == LOOPBACK else ANY

    def host_endpoint(self, sockets: Path) -> Endpoint:
        return Endpoint(transport="tcp", ip=LOOPBACK, ports=TCP_PORTS)

    def kernel_endpoint(self) -> Endpoint:
        return Endpoint(transport="tcp", ip=ANY, ports=TCP_PORTS)

    def resolve(self, sockets: Path, info: ContainerInfo) -> Endpoint:
        missing = [port for port in TCP_PORTS.values() if port not in info.published]
        if missing:
            raise EngineError(
                f"Container {info.id[:12]} publishes no port for {missing}. Its network has no way "
                "to its host; set network='bridge', or transport='network'."
            )
        ports = {name: info.published[port][1] for name, port in TCP_PORTS.items()}
        return Endpoint(transport="tcp", ip=self.address, ports=ports)

    async def until_listening(self, endpoint: Endpoint) -> None:
        for port in endpoint.ports.values():
            while not await _greets(endpoint.ip, port):
                await asyncio.sleep(LOOK_SECONDS)

    async def until_closed(self, endpoint: Endpoint) -> None:
        ports = endpoint.ports.values()
        await asyncio.gather(
            *(until_eof(asyncio.open_connection(endpoint.ip, port)) for port in ports)
        )


async def _greets(ip: str, port: int) -> bool:
    """Whether a ZeroMQ socket answers there."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(ip, port), _GREETING_SECONDS
        )
        try:
            return await asyncio.wait_for(reader.read(1), _GREETING_SECONDS) == _GREETING
        finally:
            writer.close()
    return False
