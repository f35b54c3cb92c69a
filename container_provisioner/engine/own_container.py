"""The container that this process runs in, if the engine has it.

A path of this process is then another one on the engine's host, and a port that is published there
is not on this process's loopback.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ContainerGone, EngineError
from ..spec import Mount
from ..topology import HOST_NETWORK, OwnContainer
from .base import ContainerEngine, ContainerInfo

# Engines leave one of them in each container: Docker, Podman.
_SIGNS = (".dockerenv", "run/.containerenv")
# The engine's own files, mounted: /var/lib/docker/containers/ID/hostname, and Podman's
# …/overlay-containers/ID/userdata/hostname.
_MOUNTED = re.compile(r"/([0-9a-f]{64})/(?:userdata/)?(?:hostname|hosts|resolv\.conf) ")
_CGROUP = re.compile(r"[/-]([0-9a-f]{64})(?:\.scope)?$", re.M)
_HOSTNAME = re.compile(r"[0-9a-f]{12}")


def own_ids(root: Path = Path("/")) -> Iterator[str]:
    """What this process's container may be called, the surest first; nothing on a host.

    A hostname is a container's id by default only, and may be that of another container; it is
    taken when it looks like one.
    """
    if not any((root / sign).exists() for sign in _SIGNS):
        return
    for file, pattern in (("mountinfo", _MOUNTED), ("cgroup", _CGROUP)):
        try:
            text = (root / "proc/self" / file).read_text()
        except OSError:
            continue
        yield from dict.fromkeys(pattern.findall(text))
    hostname = socket.gethostname()
    if _HOSTNAME.fullmatch(hostname):
        yield hostname


def find_own_container(engine: ContainerEngine, root: Path = Path("/")) -> OwnContainer | None:
    """None on a host, without a call; and in a container of another engine. Blocks.

    Raises `EngineError`.
    """
    for container_id in own_ids(root):
        try:
            found = engine.inspect(container_id)
        except ContainerGone:
            continue
        if found.id.startswith(container_id):  # not by its name
            return _as_own(found, engine)
    return None


def _as_own(found: ContainerInfo, engine: ContainerEngine) -> OwnContainer:
    reached_from = _local_address(engine.url)
    return OwnContainer(
        id=found.id,
        mounts=tuple(_seen(mount) for mount in (*found.mounts, *found.volumes)),
        networks={name: _is_closed(engine, name) for name in sorted(found.addresses)},
        engine_network=next(
            (name for name, address in found.addresses.items() if address == reached_from), ""
        ),
        on_host_network=found.network == HOST_NETWORK,
        labels=found.labels,
    )


def _seen(mount: Mount) -> Mount:
    """Where it is to this process: /var/run is a link in most images."""
    return replace(mount, target=os.path.realpath(mount.target))


def _is_closed(engine: ContainerEngine, network: str) -> bool:
    """Whether the network has no way out.

    One that the engine, or a proxy before it, says nothing about is taken to have one: all that
    follows is which network is chosen by default, and what a notice says.
    """
    try:
        return any(found.internal for found in engine.networks(network))
    except EngineError:
        return False


def _local_address(url: str) -> str:
    """This process's own, in the network by which it reaches the engine. Empty for a socket.

    Nothing is sent.
    """
    parts = urlsplit(url)
    if parts.scheme != "tcp" or not parts.hostname:
        return ""
    try:
        kind, _, _, _, address = socket.getaddrinfo(
            parts.hostname, parts.port or 2375, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return ""
