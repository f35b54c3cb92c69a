"""What another process needs to control a kernel: the part ``container`` of provisioner info."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .connection import Endpoint
from .errors import KernelNotAdoptable
from .handle import ContainerIdentity, KernelContainer
from .spec import Mount
from .store import KernelDirectory
from .transports import Transport, transport_named

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class AdoptableKernel:
    """JSON-safe. What has a default is newer than schema 1, which is still read."""

    engine_url: str
    identity: ContainerIdentity
    directory: KernelDirectory
    cwd: str  # in the container
    mounts: tuple[Mount, ...]  # the notebook's folder, and what the user added
    kernel_name: str = ""
    transport: str = ""  # ipc, tcp or network
    network: str = ""
    address: str = ""  # of the engine's host; empty: it is this one
    nodes: Mapping[str, str] | None = None  # of a swarm: see `Topology`
    on_server_exit: str = "stop"
    max_idle: float = 0.0  # seconds; 0 is for ever
    server: str = ""  # which of the servers that share a runtime directory; empty is none
    folder: str = ""  # the notebook's, on the host
    session_name: str = ""  # JPY_SESSION_NAME
    read_only: bool = True  # nothing of the user's can be in the container

    def channels(self) -> Transport:
        """How messages reach it."""
        return transport_named(
            self.transport, network=self.network, address=self.address, nodes=self.nodes
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            **vars(self),
            "identity": vars(self.identity),
            "directory": str(self.directory.path),
            "mounts": [vars(mount) for mount in self.mounts],
        }

    def as_label(self) -> str:
        """The same as text, for a container that has no id yet."""
        return json.dumps(self.as_json())

    @classmethod
    def from_label(cls, text: str, container_id: str) -> AdoptableKernel:
        """Raises `KernelNotAdoptable` for what is not such a text."""
        try:
            fields = json.loads(text)
            fields["identity"]["container_id"] = container_id
            return cls.from_json(
                {"kernel_id": fields["identity"]["kernel_id"], "container": fields}
            )
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise KernelNotAdoptable(
                f"The labels of container {container_id[:12]} do not describe a kernel."
            ) from exc

    @classmethod
    def from_json(cls, info: Mapping[str, Any]) -> AdoptableKernel:
        """From a whole provisioner info. Unknown fields are ignored.

        Raises `KernelNotAdoptable` for one that is of no container, of two different kernels, or
        has a field of the wrong kind.
        """
        fields = info.get("container")
        if not isinstance(fields, dict) or not isinstance(fields.get("identity"), dict):
            raise KernelNotAdoptable("This is no provisioner info of a kernel in a container.")
        if not fields.get("transport"):  # as schema 1 had it
            fields = {**fields, "transport": _transport_of(info.get("connection_info"))}
        identity = ContainerIdentity.from_json(fields["identity"])
        if info.get("kernel_id") != identity.kernel_id:
            raise KernelNotAdoptable("The provisioner info is of two different kernels.")

        def text(name: str, default: str, *allowed: str) -> str:
            value = fields.get(name, default)
            if not isinstance(value, str) or value not in (allowed or (value,)):
                raise KernelNotAdoptable(f"The provisioner info's {name} makes no sense.")
            return value

        try:
            mounts = tuple(Mount(**mount) for mount in fields.get("mounts", ()))
            max_idle = float(fields.get("max_idle", 0.0))
        except (TypeError, ValueError) as exc:
            raise KernelNotAdoptable(f"The provisioner info makes no sense: {exc}.") from exc
        if not 0 <= max_idle < math.inf:
            raise KernelNotAdoptable("The provisioner info's max_idle makes no sense.")
        return cls(
            engine_url=text("engine_url", ""),
            identity=identity,
            directory=KernelDirectory.recorded(fields.get("directory"), identity.kernel_id),
            cwd=text("cwd", "/"),
            mounts=mounts,
            kernel_name=text("kernel_name", ""),
            transport=text("transport", "", "", "ipc", "tcp", "network"),
            network=text("network", ""),
            address=text("address", ""),
            nodes=_nodes(fields.get("nodes")),
            on_server_exit=text("on_server_exit", "stop", "stop", "keep"),
            max_idle=max_idle,
            server=text("server", ""),
            folder=text("folder", ""),
            session_name=text("session_name", ""),
            read_only=fields.get("read_only") is not False,
        )


def _transport_of(connection_info: Any) -> Any:
    return connection_info.get("transport", "") if isinstance(connection_info, Mapping) else ""


def _nodes(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
        raise KernelNotAdoptable("The provisioner info's nodes make no sense.")
    return value


@dataclass(frozen=True, kw_only=True)
class RunningKernel:
    """A kernel that this process controls, launched or adopted."""

    container: KernelContainer
    facts: AdoptableKernel
    endpoint: Endpoint
    started_at: str  # as the engine has it
    started_in: float = 0.0  # seconds; 0 when it was adopted
    # The content of its kernel_info_reply; None while nobody has asked, or when it was too busy, or
    # paused, to answer.
    kernel_info: Mapping[str, Any] | None = None
