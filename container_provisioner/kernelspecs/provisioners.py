"""The entry points of ours that a stanza can name, and the settings that each of them knows."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import ContainerSettings
from ..swarm.settings import SwarmSettings

PROVISIONER = "container-provisioner"
SWARM_PROVISIONER = "container-swarm-provisioner"

SETTINGS: Mapping[str, type[ContainerSettings]] = {
    PROVISIONER: ContainerSettings,
    SWARM_PROVISIONER: SwarmSettings,
}
