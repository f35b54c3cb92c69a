"""Unix sockets in the kernel's private directory: a full kernel without any network."""

from __future__ import annotations

import stat
from pathlib import Path

from ..command import SOCKETS_DIR
from ..connection import IPC_PORTS, Endpoint
from ..engine.base import ContainerInfo

SOCKET_PREFIX = "k"


class IpcTransport:
    """The default. The directory is mounted into the container, and both ends meet in it."""

    published_ports: tuple[int, ...] = ()

    def host_endpoint(self, sockets: Path) -> Endpoint:
        return Endpoint(transport="ipc", ip=str(sockets / SOCKET_PREFIX), ports=IPC_PORTS)

    def kernel_endpoint(self) -> Endpoint:
        return Endpoint(transport="ipc", ip=f"{SOCKETS_DIR}/{SOCKET_PREFIX}", ports=IPC_PORTS)

    def resolve(self, sockets: Path, info: ContainerInfo) -> Endpoint:
        return self.host_endpoint(sockets)

    async def listening(self, endpoint: Endpoint) -> bool:
        return all(_is_socket(Path(path)) for path in endpoint.socket_paths())


def _is_socket(path: Path) -> bool:
    # Not a link: what a kernel leads us to could be any socket of this host.
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False
