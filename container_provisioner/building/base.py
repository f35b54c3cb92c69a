"""The image that a recipe stands on: there, pulled, or made of Debian's packages."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..engine.calls import Engine
from ..errors import BuildFailed, ImageMissing, PullFailed
from .debian import SUITE, NoRootFilesystem, Notice, root_filesystem
from .recipe import Recipe

DEBIAN_IMAGE = f"container-provisioner/debian-python:{SUITE}"
DEBIAN_PACKAGES = ("python3", "python3-venv")

# In the explanation of a build that failed there.
_FROM = re.compile(r"^step \d+ of \d+, ['\"]FROM (--\S+ )*(?P<image>[^\s'\"]+)", re.IGNORECASE)

Pull = Callable[[str], Awaitable[None]]
"""Fetches an image. Raises `PullFailed`."""


async def ensure_base(
    engine: Engine, recipe: Recipe, base: str, *, pull: Pull, notice: Notice
) -> str:
    """The name of the base to build on, which the engine has now: by its digest, if a registry
    serves it. Whatever else gets its tag meanwhile, the image is of this one.

    `base` is what the user chose: nothing else is taken then. Empty: the recipe's own, for which
    Debian's Python can stand in. `notice` is told what the user did not ask for. Raises
    `BuildFailed`, with each way that was tried.
    """
    wanted = base or recipe.base
    if (there := await _pinned(engine, wanted)) is not None:
        return there
    try:
        await pull(wanted)
    except PullFailed as exc:
        tried = [f"{wanted} is not on the engine and could not be pulled ({exc.explanation})"]
    else:
        return await _pinned(engine, wanted) or wanted
    if recipe.debian_will_do and not base:
        notice(f"{wanted} could not be pulled; {DEBIAN_IMAGE} stands in for it.")
        try:
            await _ensure_debian(engine, notice)
        except NoRootFilesystem as exc:
            tried.append(f"{DEBIAN_IMAGE} could not be made of Debian's packages ({exc})")
        else:
            return DEBIAN_IMAGE
    advice = (
        f"Load one into the engine, or name another with --base: an image with {recipe.base_needs}."
    )
    if base and recipe.debian_will_do:
        advice += " Without --base, Debian's Python stands in where there is no registry."
    raise BuildFailed(recipe.image, f"it needs a base image. Tried: {'; '.join(tried)}. {advice}")


def base_advice(failure: BuildFailed) -> str:
    """What to do when a base that cannot be chosen is not to be had: a sentence, or nothing."""
    found = _FROM.search(failure.explanation)
    if found is None or "disk is full" in failure.explanation:
        return ""
    return (
        f" Load {found['image']} into the engine ('docker load'), or begin the Dockerfile with "
        f"'ARG BASE={found['image']}' and 'FROM ${{BASE}}', and name another with --base. A folder "
        "with a requirements.txt and no Dockerfile is built without a registry, too: on Debian's "
        "Python."
    )


async def _pinned(engine: Engine, image: str) -> str | None:
    """The image by its digest in the registry that its name means; its name, where there is none.
    None: the engine does not have it."""
    try:
        found = await engine.inspect_image(image)
    except ImageMissing:
        return None
    if image.startswith("localhost/"):  # Podman's name for what was built here
        return image
    return found.digest_of(image) or image


async def _ensure_debian(engine: Engine, notice: Notice) -> None:
    if await _pinned(engine, DEBIAN_IMAGE) is not None:
        return
    with tempfile.TemporaryDirectory(prefix="debian-") as scratch:
        tarball = Path(scratch, "root.tar")
        await root_filesystem(tarball, packages=DEBIAN_PACKAGES, notice=notice)
        archive = await asyncio.to_thread(tarball.read_bytes)
    await engine.import_image(DEBIAN_IMAGE, archive, {})
