"""Profiles and what follows from them: one frozen `Settings`, and who the kernel may be.

Pure values. `config` reads the traits into a `Settings`; nothing after it knows about traits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ConfigurationError, UserRefused
from .spec import Limits, Mount, Placement
from .topology import LOCAL, OwnContainer, Topology

NOBODY = 65534
INTERNAL = "internal"  # a network of ours: see `internal_network`


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The settings that a profile stands for. A trait of the same name overrides each."""

    network: str
    workspace: str  # "none", "ro" or "rw"
    read_only: bool  # the root filesystem; home and /tmp are then in memory


PROFILES: Mapping[str, Profile] = {
    "sandbox": Profile(network="none", workspace="ro", read_only=True),
    "dev": Profile(network="bridge", workspace="rw", read_only=False),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a launch needs to know, profile and overrides already applied."""

    image: str = ""
    engine: str = "auto"
    engine_url: str = ""
    topology: Topology = LOCAL
    allow_plaintext: bool = False
    profile: str = "sandbox"
    transport: str = "ipc"
    network: str = "none"
    workspace: str = "ro"
    workspace_named: bool = False  # by the user, not only by the profile
    read_only: bool = True
    user: str = "auto"
    allow_root: bool = False
    limits: Limits = Limits()
    gpus: str = ""
    runtime: str = ""
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_passthrough: tuple[str, ...] = ()
    restart_mode: str = "in-place"
    warm_pool_size: int = 0
    on_server_exit: str = "stop"  # or "keep"
    max_idle: float = 0.0  # seconds without a server; 0 is for ever
    pull_policy: str = "missing"
    pull_timeout: float = 600.0
    start_timeout: float = 60.0
    extra_create_options: Mapping[str, Any] = field(default_factory=dict)
    placement: Placement | None = None  # in a swarm

    def check(self) -> None:
        """Refuse settings that are fine one by one and contradict each other."""
        if self.topology.is_remote:
            self._check_other_host()
        if self.topology.own is not None:
            self._check_own_container(self.topology.own)
        if self.transport in ("tcp", "network") and self.network == "none":
            raise ConfigurationError(
                f"transport {self.transport!r} needs a network, and network is 'none' "
                f"(profile {self.profile!r}). Set network='internal', which has no way out, or "
                "transport='ipc'."
            )
        if self.network == "host" or self.network.startswith(("container:", "ns:")):
            raise ConfigurationError(
                f"network {self.network!r} would let the kernel reach what listens on loopback "
                "only. Use 'bridge' or a network of the engine's."
            )

    def _check_other_host(self) -> None:
        is_swarm = self.topology.is_swarm
        where = f"The engine at {self.topology.engine_url} is {self.topology.where}"
        if is_swarm:
            where = "A swarm's kernels are on any of its nodes"
        if not self.image:
            raise ConfigurationError(
                f"{where}, where this one's Python is not. Set image to one with a kernel."
            )
        if self.transport != "tcp" and not (is_swarm and self.transport == "network"):
            raise ConfigurationError(
                f"{where}, and transport {self.transport!r} reaches kernels on this one only. "
                "Leave transport unset, or set transport='tcp'."
            )
        if self.workspace_named and self.workspace != "none":
            raise ConfigurationError(
                f"{where}, where the notebook's folder is not: workspace={self.workspace!r} cannot "
                "be. Set workspace='none', and mounts for paths of that host."
            )
        if not self.topology.address and not is_swarm:
            raise ConfigurationError(
                f"{where}, whose address cannot be told from the URL. Set engine_host."
            )

    def _check_own_container(self, own: OwnContainer) -> None:
        where = f"This server runs in {own} of the engine at {self.topology.engine_url}"
        if not self.image:
            raise ConfigurationError(
                f"{where}, whose Python is not on the engine's host. Set image to one with a "
                "kernel; it may be the server's own."
            )
        if self.transport == "ipc" and not self.topology.shares_files:
            raise ConfigurationError(
                f"{where}, and transport 'ipc' needs a folder that kernels can have: "
                f"{self.topology.why_not(self.topology.private)}. Set JUPYTER_RUNTIME_DIR to a "
                "short path on a volume, or leave transport unset."
            )
        if own.engine_network and self.network == own.engine_network:
            raise ConfigurationError(
                f"{where}, which it reaches by the network {self.network!r}. A kernel in it would "
                "have the engine, and with it its host. Set network to another one."
            )
        if self.transport == "network" and self.topology.joins_network:
            self._check_joined(own, where)

    def _check_joined(self, own: OwnContainer, where: str) -> None:
        if self.network in own.networks:
            return
        possible = ", ".join(name for name in own.networks if name != own.engine_network)
        which = f"{self.network!r} is not one of them" if self.network else "it is not clear which"
        raise ConfigurationError(
            f"{where}, and kernels are to join a network that it is in too "
            f"({possible or 'there is none that they may'}): {which}. Set network to one of these, "
            "or JUPYTER_RUNTIME_DIR to a folder on a volume: messages then need no network."
        )


def choose_transport(name: str, topology: Topology = LOCAL) -> str:
    """``auto`` is ipc, which needs no network, where sockets can be shared.

    From a container, ports that are published on its host cannot be reached: ``tcp`` is
    ``network`` there.
    """
    if name == "auto" and topology.shares_files:
        return "ipc"
    if name in ("auto", "tcp"):
        return "network" if topology.joins_network else "tcp"
    return name


def choose_network(named: str, transport: str, profile: Profile, topology: Topology = LOCAL) -> str:
    """The network that was `named`, else the profile's; if that is none, tcp gets the one without a
    way out.

    When the server is in a container and messages need a network, it is one of that container's;
    empty when it is not clear which.
    """
    if not named and transport == "network" and topology.own is not None:
        return topology.own.network
    if not named and transport == "tcp" and profile.network == "none":
        return INTERNAL
    return named or profile.network


def is_root(user: str) -> bool:
    """Whether an engine would take this for root: ``0``, ``00``, ``+0``, ``root``, ``0:100``…"""
    name = user.partition(":")[0].strip()
    if re.fullmatch(r"[+-]?\d+", name):
        return int(name) == 0
    return name in ("", "root")


@dataclass(frozen=True)
class KernelUser:
    """The ids the kernel runs with, as numbers."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def choose_user(
    settings: Settings,
    *,
    caller: KernelUser,
    image_user: KernelUser | None,
    workspace_owner: KernelUser | None,
) -> KernelUser:
    """Who the kernel is. Raises `UserRefused` for root without `allow_root`.

    ``auto`` is the caller, so that files keep their owner. A caller that is root has no uid to
    give: the kernel then is the owner of a workspace that it may write, else the image's user,
    else nobody. `image_user` is None for the host's environment.
    """
    if settings.user == "auto":
        others = [workspace_owner if settings.workspace == "rw" else None, image_user]
        chosen = next(
            (user for user in (caller, *others) if user is not None and user.uid != 0),
            KernelUser(NOBODY, NOBODY),
        )
    elif settings.user == "image":
        if image_user is None:
            raise UserRefused("user='image' needs an image; set image, or user='auto'.")
        chosen = image_user
    else:
        uid, _, gid = settings.user.partition(":")
        chosen = KernelUser(int(uid), int(gid or uid))
    if chosen.uid == 0 and not settings.allow_root:
        raise UserRefused(
            f"user={settings.user!r} is root in the container"
            + (" (the image names no other user)" if settings.user == "image" else "")
            + ". Set user='auto' or a uid:gid, or allow_root=True if it must be."
        )
    if settings.topology.shares_files and caller.uid not in (0, chosen.uid):
        raise UserRefused(
            f"The kernel would run as uid {chosen.uid}, and this process (uid {caller.uid}) can "
            "hand over its connection file only to its own uid. Set user='auto'."
        )
    return chosen
