"""How this process and the engine's host see each other: their paths and addresses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from .spec import Mount

HOST_NETWORK = "host"
LOOPBACK = "127.0.0.1"

# Folders of those whose engines are in a virtual machine, and whose sockets lead into it.
_MACHINES = (".docker/desktop", ".docker/run", ".colima", ".lima", ".rd", ".orbstack")
_COMPOSE = "com.docker.compose."


@dataclass(frozen=True, kw_only=True)
class OwnContainer:
    """The container that this process runs in, as the engine has it."""

    id: str
    mounts: tuple[Mount, ...] = ()  # without a source: not of the engine's disk
    networks: Mapping[str, bool] = field(default_factory=dict)  # whether it has no way out
    engine_network: str = ""  # by which it reaches the engine; empty: by none
    on_host_network: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"container {self.id[:12]}"

    @property
    def network(self) -> str:
        """The network that kernels join when nobody names one: this container's only one, else its
        only one without a way out; empty when there is no such one. Never that by which the engine
        is reached: who reaches the engine is root on its host."""
        possible = [name for name in self.networks if name != self.engine_network]
        closed = [name for name in possible if self.networks[name]]
        return next((names[0] for names in (possible, closed) if len(names) == 1), "")

    @property
    def project_labels(self) -> dict[str, str]:
        """Labels by which compose takes a kernel for a part of the server's project, as a service
        that is not in its file: ``ps`` lists it, ``up`` leaves it alone, and ``down
        --remove-orphans`` removes it, so that the project's networks and volumes can go, too."""
        project = self.labels.get(f"{_COMPOSE}project")
        if not project:
            return {}
        service = f"{self.labels.get(f'{_COMPOSE}service', '')}-kernel"
        facts = {
            "project": project,
            "service": service,
            "oneoff": "False",
            "container-number": "1",
            "config-hash": "kernel",  # v2 takes what has none for nobody's
        }
        return {f"{_COMPOSE}{name}": value for name, value in facts.items()}

    def seen_mounts(self) -> str:
        """For messages: what of it is where on the engine's host."""
        pairs = [f"{mount.target} is {mount.source}" for mount in self.mounts if mount.source]
        return "; ".join(pairs) or "it has none"


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What a launch has to know of where the engine is."""

    # A kernel can have the private directory, and a socket in it be shared.
    shares_files: bool = True
    address: str = ""  # of the engine's host, as this one sees it; empty: it is this host
    engine_url: str = ""  # for messages
    in_machine: bool = False  # that host is a virtual machine of this one
    own: OwnContainer | None = None  # this process is in a container of the engine
    private: str = ""  # the folder of private directories, when it is
    # Of a swarm: addresses of nodes, by their hostnames, where they are not what the swarm says.
    nodes: Mapping[str, str] | None = None  # None: it is no swarm

    @property
    def is_remote(self) -> bool:
        """Whether the engine's host is another one: nothing of this one can be mounted."""
        return not self.shares_files and self.own is None

    @property
    def is_swarm(self) -> bool:
        """Whether kernels are services, on whichever node has room for them."""
        return self.nodes is not None

    @property
    def where(self) -> str:
        """Where a remote engine is, for a message."""
        return "in a virtual machine" if self.in_machine else "on another host"

    @property
    def joins_network(self) -> bool:
        """Whether ports that are published on the engine's host cannot be reached from here."""
        return self.own is not None and not self.own.on_host_network

    def host_path(self, path: str) -> str | None:
        """What a path of this process is called on the engine's host; None when it is not there.

        The one place that translates. Links of this process's filesystem are followed.
        """
        if self.own is None:
            return path if self.shares_files else None
        real = PurePosixPath(os.path.realpath(path))
        holder = self._holder(real)
        if holder is None or not holder.source:
            return None
        return str(PurePosixPath(holder.source) / real.relative_to(holder.target))

    def for_engine(self, mount: Mount) -> Mount:
        """A mount of a path of this process, as the engine has to be told. What this process's own
        container has read-only is read-only there, too. (For an engine on another host, mounts name
        paths of that host already.)"""
        there = self.host_path(mount.source) if self.own else None
        holder = self._holder(PurePosixPath(os.path.realpath(mount.source)))
        if there is None or holder is None:
            return mount
        return replace(mount, source=there, read_only=mount.read_only or holder.read_only)

    def _holder(self, real: PurePosixPath) -> Mount | None:
        """The own container's mount that a path is on."""
        mounts = self.own.mounts if self.own is not None else ()
        holders = [mount for mount in mounts if real.is_relative_to(mount.target)]
        return max(holders, key=lambda mount: len(mount.target), default=None)

    def why_not(self, path: str) -> str:
        """The end of a sentence about a path that cannot be translated, with both paths."""
        real = os.path.realpath(path)
        return (
            f"{real!r} is on no mount of this server's {self.own}, and the engine would take "
            f"{real!r} of its own host for it. On that host, "
            f"{self.own.seen_mounts() if self.own else 'there is nothing of this one'}"
        )

    def describe(self, transport: str, network: str) -> str:
        """One sentence for the log and for people: where this server is, and what follows."""
        there = self.host_path(self.private)
        files = (
            f"its folder {self.private} is {there} on the engine's host"
            if there
            else f"its folder {self.private} is on no mount, and files are uploaded"
        )
        if transport == "ipc":
            ways = "messages go over unix sockets there"
        elif transport == "network":
            closed = self.own is not None and self.own.networks.get(network)
            ways = f"kernels join network {network!r}" + (", which has no way out" * bool(closed))
        else:
            ways = f"messages go over {transport}"
        return f"This server runs in {self.own} of the engine at {self.engine_url}: {files}; {ways}"


LOCAL = Topology()

SWARM = "swarm+"
"""Begins the URL of an engine that is asked for services of its swarm, not for containers."""


def topology_of(
    engine_url: str,
    *,
    engine_host: str = "",
    own: OwnContainer | None = None,
    private: str = "",
) -> Topology:
    """How this process sees the engine at that URL.

    A unix socket is on this host, and so is an engine that is not known yet (an empty URL);
    everything else is on another host. A swarm's kernels are on any of its nodes. An engine in a
    virtual machine of this host, such as Docker Desktop's, can share no unix sockets with this
    host, but its published ports are on loopback here.

    `own` is the container that this process runs in, if the engine has it. Then the engine is on
    this host, whatever the URL says, and sees other paths; files are shared if it can mount
    `private`, the folder of the kernels' private directories. `engine_host` is the address of the
    engine's published ports, where the URL does not say.
    """
    if own is not None:
        inside = Topology(engine_url=engine_url, own=own, private=private)
        shares_files = inside.host_path(private) is not None
        return Topology(engine_url=engine_url, own=own, private=private, shares_files=shares_files)
    if engine_url.startswith(SWARM):
        return Topology(shares_files=False, engine_url=engine_url, nodes={})
    parts = urlsplit(engine_url)
    if parts.scheme == "unix" and _leads_into_machine(parts.path):
        address = engine_host or LOOPBACK
        return Topology(shares_files=False, in_machine=True, address=address, engine_url=engine_url)
    if parts.scheme in ("", "unix"):
        return Topology(engine_url=engine_url)
    return Topology(
        shares_files=False, address=engine_host or parts.hostname or "", engine_url=engine_url
    )


def _leads_into_machine(socket: str) -> bool:
    names = (socket, os.path.realpath(socket))
    return sys.platform != "linux" or any(f"/{m}/" in name for m in _MACHINES for name in names)
