"""Runs Jupyter kernels in containers: a `jupyter_client` kernel provisioner."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attached import attach, attach_async
    from .sandbox import AsyncSandbox, Sandbox

__version__ = "0.1.0.dev0"
__all__ = ["AsyncSandbox", "Sandbox", "attach", "attach_async"]


def __getattr__(name: str) -> Any:
    # On demand: the guard, and everything else that imports this package, needs no manager.
    if name in __all__:
        module = "sandbox" if name.endswith("Sandbox") else "attached"
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """See "Server Extensions" in jupyter_server's documentation."""
    from .server import ContainerKernels  # the only place that needs jupyter_server

    return [{"module": "container_provisioner.server", "app": ContainerKernels}]
