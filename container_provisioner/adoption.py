"""What another process needs to control a kernel, and how it is checked when it takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import labels
from .engine.calls import Engine
from .errors import ContainerGone, KernelNotAdoptable
from .handle import ContainerIdentity
from .spec import Mount
from .store import KernelDirectory

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class AdoptableKernel:
    """The part ``container`` of a provisioner's info."""

    engine_url: str
    identity: ContainerIdentity
    directory: KernelDirectory
    cwd: str  # in the container
    mounts: tuple[Mount, ...]  # the notebook's folder, and what the user added

    def as_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "engine_url": self.engine_url,
            "identity": vars(self.identity),
            "directory": str(self.directory.path),
            "cwd": self.cwd,
            "mounts": [vars(mount) for mount in self.mounts],
        }

    @classmethod
    def from_json(cls, info: Mapping[str, Any]) -> AdoptableKernel:
        """From a whole provisioner info. Unknown fields are ignored.

        Raises `KernelNotAdoptable` for one that is of no container or of two different kernels.
        """
        fields = info.get("container")
        if not isinstance(fields, dict) or not isinstance(fields.get("identity"), dict):
            raise KernelNotAdoptable("This is no provisioner info of a kernel in a container.")
        identity = ContainerIdentity.from_json(fields["identity"])
        if info.get("kernel_id") != identity.kernel_id:
            raise KernelNotAdoptable("The provisioner info is of two different kernels.")
        return cls(
            engine_url=str(fields.get("engine_url", "")),
            identity=identity,
            directory=KernelDirectory.recorded(fields.get("directory"), identity.kernel_id),
            cwd=str(fields.get("cwd", "/")),
            mounts=tuple(Mount(**mount) for mount in fields.get("mounts", ())),
        )


async def check_identity(engine: Engine, identity: ContainerIdentity) -> None:
    """Raises `KernelNotAdoptable` when that container is there and not the one described."""
    try:
        found = await engine.inspect(identity.container_id)
    except ContainerGone:
        return
    expected = {labels.KERNEL_ID: identity.kernel_id, labels.LAUNCH_ID: identity.launch_id}
    if found.id != identity.container_id or not expected.items() <= found.labels.items():
        raise KernelNotAdoptable(
            f"Container {identity.container_id[:12]} is not that of kernel "
            f"{identity.kernel_id}. Nothing was changed."
        )
