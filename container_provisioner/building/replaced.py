"""The image whose name a build takes: removed when nobody needs it any more."""

from __future__ import annotations

import contextlib

from .. import labels
from ..engine.calls import Engine
from ..errors import EngineError, ImageMissing


def full_name(image: str) -> str:
    """With its tag, as the engine writes it."""
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


async def built_before(engine: Engine, image: str) -> str:
    """The id of the image of that name, if this command has built it as that; else empty."""
    try:
        found = await engine.inspect_image(image)
    except ImageMissing:
        return ""
    return found.id if found.labels.get(labels.BUILT_AS) == full_name(image) else ""


async def remove_nameless(engine: Engine, image: str) -> None:
    """Remove an image, by its id, that has no name left and that no container or image needs.

    Quiet when it cannot be done: what was built is there.
    """
    with contextlib.suppress(EngineError):
        found = await engine.inspect_image(image)
        if not (found.names or found.digests):
            await engine.remove_image(image)
