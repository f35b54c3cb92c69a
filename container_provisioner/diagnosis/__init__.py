"""What is right and wrong with this installation, its engine, and a kernel that is tried out."""

from __future__ import annotations

from .engine import examine_engine, examine_leftovers
from .finding import Finding
from .installation import RUNTIME_FOLDER, examine_installation
from .kernel import examine_kernel

__all__ = [
    "RUNTIME_FOLDER",
    "Finding",
    "examine_engine",
    "examine_installation",
    "examine_kernel",
    "examine_leftovers",
]
