"""What is right and wrong with this installation, its engine, and a kernel that is tried out."""

from __future__ import annotations

from .engine import examine_engine
from .finding import Finding
from .installation import examine_installation
from .kernel import examine_kernel

__all__ = ["Finding", "examine_engine", "examine_installation", "examine_kernel"]
