"""Fixed ports on the container's own address in a network that the server can reach too."""

from __future__ import annotations

from pathlib import Path

from ..connection import TCP_PORTS, Endpoint
from ..engine.base import ContainerInfo
from ..errors import EngineError
from .tcp import TcpTransport


class NetworkTransport(TcpTransport):
    """By address, on the network of that name. Nothing is published on the host."""

    published_ports: tuple[int, ...] = ()

    def __init__(self, network: str) -> None:
        super().__init__()
        self.network = network

    def resolve(self, sockets: Path, info: ContainerInfo) -> Endpoint:
        return Endpoint(transport="tcp", ip=container_address(info, self.network), ports=TCP_PORTS)


def container_address(info: ContainerInfo, network: str) -> str:
    """The container's address in `network`. Raises `EngineError` naming what there is instead.

    Read per network: the engine's top-level field is empty for every network but the default one.
    """
    try:
        return info.addresses[network]
    except KeyError:
        there = ", ".join(sorted(info.addresses)) or "no network at all"
        raise EngineError(
            f"Container {info.id[:12]} has no address in network {network!r}; it is in {there}. "
            "Set network to one that it can join, or transport='tcp'."
        ) from None
