"""Images with kernels: what they are built from, upon which base, and with whose network.

`folder_recipe` and `shipped_recipe` say what is to be built, `ensure_base` finds or makes what it
stands on, and `build_request` puts it together for the engine. `built_before` and `remove_nameless`
are for the image that had its name.
"""

from __future__ import annotations

from ..engine.build_context import check_image_name
from .base import base_advice, ensure_base
from .host_network import HostNetwork
from .recipe import Recipe, shipped_images, shipped_recipe
from .replaced import built_before, remove_nameless
from .request import build_request
from .sources import folder_recipe

__all__ = [
    "HostNetwork",
    "Recipe",
    "base_advice",
    "build_request",
    "built_before",
    "check_image_name",
    "ensure_base",
    "folder_recipe",
    "remove_nameless",
    "shipped_images",
    "shipped_recipe",
]
