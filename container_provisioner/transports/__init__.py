"""How messages get in and out: three ways to connect the manager's sockets and the kernel's."""

from __future__ import annotations

from .base import Transport
from .ipc import IpcTransport
from .network import NetworkTransport
from .tcp import TcpTransport

__all__ = ["Transport", "transport_named"]


def transport_named(name: str, *, network: str) -> Transport:
    """The transport of that name: ``ipc``, ``tcp`` or ``network``."""
    if name == "ipc":
        return IpcTransport()
    return TcpTransport() if name == "tcp" else NetworkTransport(network)
