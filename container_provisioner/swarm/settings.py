"""The traits of kernels in a swarm, and which of the others a service cannot have."""

from __future__ import annotations

import re
from dataclasses import replace

from traitlets import TraitError, Unicode

from ..config import ContainerSettings
from ..errors import ConfigurationError
from ..policy import Settings
from ..spec import Placement
from ..topology import OwnContainer
from ..trait_types import Cores, Fields, Names, Size, parse_size

_CONSTRAINT = re.compile(r"[\w.-]+ *(==|!=) *\S.*")
_LABEL = re.compile(r"(node|engine)\.labels\.\S+")

# Settings that a service has no field for, and what to do instead.
_NOT_FOR_SERVICES = {
    "gpus": "name them in generic_resources, such as {'NVIDIA-GPU': '1'}",
    "runtime": "make it the default-runtime of nodes, and choose those by placement_constraints",
    "extra_create_options": "they are for containers",
    "warm_pool_size": "a service starts when its kernel does",
}


class SwarmSettings(ContainerSettings):
    """The traits. Those of `ContainerSettings` mean the same here, where a service has such."""

    placement_constraints = Names(
        trait=Unicode(),
        config=True,
        help="""
        Nodes that the kernel may run on, as ``docker service create --constraint``:
        ``node.labels.disk==ssd``, ``node.role!=manager``. All of them have to hold. Default none:
        any node. If no node does, the start fails after ``start_timeout`` and says so.
        """,
    )
    placement_preferences = Names(
        trait=Unicode(),
        config=True,
        help="""
        Labels of nodes over whose values kernels are spread evenly, such as ``node.labels.rack``.
        Default none: over the nodes.
        """,
    )
    memory_reservation = Size(
        "",
        config=True,
        help="""
        Memory that a node has to have left, by what others have reserved there, before the kernel
        is put on it: ``1g``. Default empty: nodes are filled without regard to it.
        """,
    )
    cpu_reservation = Cores(
        0.0,
        config=True,
        help="Processors, likewise, such as ``0.5``. Default 0.",
    )
    generic_resources = Fields(
        key_trait=Unicode(),
        value_trait=Unicode(),
        config=True,
        help="""
        GPUs and other things that nodes have so many of, by their kind: ``{"NVIDIA-GPU": "1"}``
        is any one, ``{"NVIDIA-GPU": "UUID1"}`` that one. Default none. A node offers what
        ``node-generic-resources`` in its engine's configuration names; that they get into the
        container is done by its default runtime (``nvidia``).
        """,
    )
    node_addresses = Fields(
        key_trait=Unicode(),
        value_trait=Unicode(),
        config=True,
        help="""
        Addresses at which this machine reaches the ports of nodes, by the nodes' hostnames, where
        they are not those that ``docker node inspect`` shows. Default none.
        """,
    )

    def settings(self, engine_url: str = "", own: OwnContainer | None = None) -> Settings:
        """All traits. Raises what `ContainerSettings.settings` raises, and `ConfigurationError` for
        what a service cannot have. Where this process runs makes no difference: the kernel may be
        on any node."""
        for name, instead in _NOT_FOR_SERVICES.items():
            if getattr(self, name):
                raise ConfigurationError(
                    f"{name} cannot be set for a kernel in a swarm: {instead}."
                )
        settings = super().settings(engine_url)
        for text in self.placement_constraints:
            if not _CONSTRAINT.fullmatch(text):
                raise TraitError(f"placement_constraints: {text!r} is not NAME==VALUE or !=")
        for text in self.placement_preferences:
            if not _LABEL.fullmatch(text):
                raise TraitError(
                    f"placement_preferences: {text!r} is not node.labels.NAME or engine.labels.NAME"
                )
        return replace(
            settings,
            topology=replace(settings.topology, nodes=dict(self.node_addresses)),
            placement=Placement(
                constraints=tuple(self.placement_constraints),
                preferences=tuple(self.placement_preferences),
                memory=parse_size(self.memory_reservation),
                cpus=self.cpu_reservation or None,
                resources=self.generic_resources,
            ),
            # A task never runs again, and a new one may be on another node: nothing is kept.
            restart_mode="recreate",
        )
