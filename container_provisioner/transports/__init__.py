"""How messages get in and out: three ways to connect the manager's sockets and the kernel's."""

from __future__ import annotations

from .. import labels
from ..policy import INTERNAL
from .base import Transport
from .ipc import IpcTransport
from .network import NetworkTransport
from .tcp import TcpTransport

__all__ = ["Transport", "transport_named"]


def transport_named(name: str, *, network: str, address: str = "") -> Transport:
    """The transport of that name: ``ipc``, ``tcp`` or ``network``.

    `address` is the engine's host's, empty for this one. That publishes no ports of the network
    ``internal``, and reaches the containers themselves.
    """
    if name == "ipc":
        return IpcTransport()
    if address:
        return TcpTransport(address)
    if network == INTERNAL:
        return NetworkTransport(labels.INTERNAL_NETWORK)
    return TcpTransport() if name == "tcp" else NetworkTransport(network)
