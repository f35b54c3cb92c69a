"""The jupyter_server extension: enabled by installing the package."""

from __future__ import annotations

from .extension import ContainerKernels

__all__ = ["ContainerKernels"]
