"""Published ports of whichever node of a swarm the kernel is on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..connection import TCP_PORTS, Endpoint
from ..engine.base import ContainerInfo
from ..errors import EngineError
from .tcp import ANY, TcpTransport


class NodesTransport(TcpTransport):
    """The node is known once the kernel runs. `addresses`: of nodes that are reached at another
    one than the swarm says, by their hostnames."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        super().__init__()
        self.published_on = ANY
        self.addresses = addresses

    def resolve(self, sockets: Path, info: ContainerInfo) -> Endpoint:
        if not all(port in info.published for port in TCP_PORTS.values()):
            raise EngineError(
                f"Service {info.id[:12]} has no ports on its node {info.node!r}. Set "
                "network='bridge', or one whose ports the node can publish."
            )
        address = self.addresses.get(info.node) or info.published[min(TCP_PORTS.values())][0]
        ports = {name: info.published[port][1] for name, port in TCP_PORTS.items()}
        return Endpoint(transport="tcp", ip=address, ports=ports)
