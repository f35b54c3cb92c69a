"""Unix sockets in the kernel's private directory: a full kernel without any network."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Sequence
from pathlib import Path

from ..command import SOCKETS_DIR
from ..connection import IPC_PORTS, Endpoint
from ..engine.base import ContainerInfo
from .base import until_eof

SOCKET_PREFIX = "k"
LOOK_SECONDS = 0.01  # where nothing tells us
DOUBT_SECONDS = 1.0  # for a file system that forgets to


class IpcTransport:
    """The default. The directory is mounted into the container, and both ends meet in it."""

    published_ports: tuple[int, ...] = ()
    published_on = ""

    def host_endpoint(self, sockets: Path) -> Endpoint:
        return Endpoint(transport="ipc", ip=str(sockets / SOCKET_PREFIX), ports=IPC_PORTS)

    def kernel_endpoint(self) -> Endpoint:
        return Endpoint(transport="ipc", ip=f"{SOCKETS_DIR}/{SOCKET_PREFIX}", ports=IPC_PORTS)

    def resolve(self, sockets: Path, info: ContainerInfo) -> Endpoint:
        return self.host_endpoint(sockets)

    async def until_listening(self, endpoint: Endpoint) -> None:
        await until_sockets([Path(path) for path in endpoint.socket_paths()])

    async def until_closed(self, endpoint: Endpoint) -> None:
        paths = endpoint.socket_paths()
        await asyncio.gather(*(until_eof(asyncio.open_unix_connection(path)) for path in paths))


async def until_sockets(paths: Sequence[Path]) -> None:
    """Until all of them, in one directory, are sockets. Whoever creates them wakes us."""
    if all(map(is_socket, paths)):
        return
    changes = None
    with contextlib.suppress(OSError):  # a user has so many, 128 mostly
        from asyncinotify import Inotify, Mask  # on Linux only, as unix sockets in containers

        changes = Inotify()
        changes.add_watch(paths[0].parent, Mask.CREATE | Mask.MOVED_TO)
    try:
        while not all(map(is_socket, paths)):
            if changes is None:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changes.get(), DOUBT_SECONDS)
    finally:
        if changes is not None:
            # In a thread: Linux waits some hundredths of a second before it forgets a watch.
            asyncio.get_running_loop().run_in_executor(None, changes.close)


def is_socket(path: Path) -> bool:
    """Not a link to one: what a kernel leads us to could be any socket of this host."""
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False
