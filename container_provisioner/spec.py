"""What a container is to be, in words of our own. Values only; `engine` translates them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A path of the engine's host, seen in the container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class Tmpfs:
    """A directory in memory. Its content counts towards the container's memory limit."""

    target: str
    size: int  # bytes
    mode: int = 0o1777
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one kernel may use. None is the engine's default, which mostly is no limit."""

    memory: int | None = None  # bytes, swap included
    cpus: float | None = None  # cores
    pids: int | None = None  # processes and threads
    shm_size: int | None = None  # bytes
    log_size: int = 10 * 1024**2  # bytes of kernel output that the engine keeps


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where in a swarm a kernel may run, and what is kept free for it there."""

    constraints: tuple[str, ...] = ()  # such as node.labels.gpu==true; all have to hold
    preferences: tuple[
        str, ...
    ] = ()  # such as node.labels.rack; kernels are spread over its values
    memory: int | None = None  # bytes; None is nothing, here and below
    cpus: float | None = None  # cores
    resources: Mapping[str, str] = field(default_factory=dict)  # kind -> a number, or an id


# Fields that are newer than some digests in records. With these values a spec is what it was before
# there was the field, so its digest is, too.
_SINCE_THEN = {"volumes": (), "published_on": "127.0.0.1", "placement": None}


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """One container, whole. Compared by value; nothing in it is secret.

    Values that may be secret (the environment a user chose, the connection file) are files in
    the kernel's private directory: everything here can be read with ``docker inspect``.
    """

    name: str
    image: str
    argv: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = "65534:65534"  # uid[:gid]; empty is the image's own
    mounts: tuple[Mount, ...] = ()
    directory: str = ""  # the kernel's private directory; mounts come from it and from elsewhere
    volumes: tuple[str, ...] = ()  # each a directory on the engine's disk that goes with it
    tmpfs: tuple[Tmpfs, ...] = ()
    network: str = "none"
    published_ports: tuple[int, ...] = ()  # at ports the engine chooses
    published_on: str = "127.0.0.1"  # address of its host
    read_only: bool = True  # the root filesystem
    limits: Limits = Limits()
    gpus: str = ""
    runtime: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    placement: Placement | None = None  # None: it is for no swarm

    def digest(self) -> str:
        """Sixteen digits that two specs share when one container can serve for both.

        The name, the labels and the private directory's path say whose a container is, and the
        plain environment names the session; none of it is a reason to throw away a container with
        what was installed in it.
        """
        fields = dict(vars(self))
        for name in ("name", "labels", "environment", "directory"):
            del fields[name]
        for name, default in _SINCE_THEN.items():
            if fields[name] == default:
                del fields[name]
        fields["mounts"] = [self._anybodys(mount) for mount in self.mounts]
        text = json.dumps(fields, sort_keys=True, default=vars)  # (asdict copies everything)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _anybodys(self, mount: Mount) -> Mount:
        if self.directory and mount.source.startswith(self.directory):
            return replace(mount, source="." + mount.source.removeprefix(self.directory))
        return mount
