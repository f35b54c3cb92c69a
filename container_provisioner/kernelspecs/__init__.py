"""Kernelspecs that start containers: found in an image or on this host, written, tried out."""

from __future__ import annotations

from .checking import Answer
from .drafts import Draft, draft
from .in_image import image_kernelspecs
from .installing import Installed, install
from .kernelspec import Kernelspec, printable
from .on_host import for_every_jupyter, host_kernelspec, host_kernelspecs
from .provisioners import PROVISIONER, SETTINGS, SWARM_PROVISIONER
from .trial import Trial, trial, trial_manager
from .writing import kernels_folder

__all__ = [
    "PROVISIONER",
    "SETTINGS",
    "SWARM_PROVISIONER",
    "Answer",
    "Draft",
    "Installed",
    "Kernelspec",
    "Trial",
    "draft",
    "for_every_jupyter",
    "host_kernelspec",
    "host_kernelspecs",
    "image_kernelspecs",
    "install",
    "kernels_folder",
    "printable",
    "trial",
    "trial_manager",
]
