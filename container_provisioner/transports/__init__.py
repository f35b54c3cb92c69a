"""How messages get in and out: three ways to connect the manager's sockets and the kernel's."""

from __future__ import annotations

from collections.abc import Mapping

from .. import labels
from ..policy import INTERNAL
from .base import Transport
from .ipc import IpcTransport
from .network import NetworkTransport
from .nodes import NodesTransport
from .tcp import TcpTransport

__all__ = ["Transport", "transport_named"]


def transport_named(
    name: str, *, network: str, address: str = "", nodes: Mapping[str, str] | None = None
) -> Transport:
    """The transport of that name: ``ipc``, ``tcp`` or ``network``.

    `address` is that of the engine's host; empty when it is this one, which publishes no ports of
    the network ``internal`` but reaches the containers themselves. `nodes` are addresses of a
    swarm's nodes, by hostname, that differ from what the swarm says; None is no swarm.
    """
    if nodes is not None:
        return NetworkTransport(network) if name == "network" else NodesTransport(nodes)
    if name == "ipc":
        return IpcTransport()
    if address:
        return TcpTransport(address)
    if network == INTERNAL:
        return NetworkTransport(labels.INTERNAL_NETWORK)
    return TcpTransport() if name == "tcp" else NetworkTransport(network)
