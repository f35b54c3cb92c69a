"""Kernels as services of a swarm: the settings that only those have, and their provisioner.

What a service is to the rest of the package says `engine.docker_services`.
"""

from __future__ import annotations

from .provisioner import SwarmProvisioner

__all__ = ["SwarmProvisioner"]
