"""The kernel's root filesystem, made ready: the host's environment or an image, one value."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from . import host_environment
from .engine.base import ImageInfo, Progress
from .engine.calls import Engine
from .errors import ImageMissing
from .image import ensure_image, image_user
from .policy import KernelUser, Settings, is_root
from .spec import Mount


@dataclass(frozen=True, kw_only=True)
class RootFilesystem:
    """What a kernel stands on. `user` is the image's own; None for the host's environment."""

    image: str  # for the engine
    title: str  # for people
    argv: tuple[str, ...]
    version: str  # changes with what is in it, under the same name
    user: KernelUser | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    is_host: bool = False


# Engines that were seen to have the image of empty directories. It need not be looked for again:
# its name is a digest of its content.
_have_host_image: weakref.WeakSet[Engine] = weakref.WeakSet()


async def import_host_image(engine: Engine) -> None:
    """Have the image of empty directories that stands under the host's environment."""
    image, layer = host_environment.empty_image()
    await engine.import_image(image, layer, host_environment.IMAGE_LABELS)
    _have_host_image.add(engine)


def _look_at_host(program: str) -> RootFilesystem:
    found = host_environment.find_program(program)
    return RootFilesystem(
        image=host_environment.empty_image()[0],
        title=host_environment.HOST_TITLE,
        argv=(found.path,),
        version=host_environment.packages_version(found),
        environment=host_environment.host_variables(found),
        mounts=host_environment.host_mounts(found),
        is_host=True,
    )


def pinned(image: str, info: ImageInfo) -> str:
    """The image by its content: a node that has it asks no registry, and all have the same.

    One that no registry is known to have is named by its id, which no node can pull.
    """
    return info.digest_of(image) or next(iter(info.digests), info.id)


async def prepare_root(
    engine: Engine,
    settings: Settings,
    argv: tuple[str, ...],
    log: logging.Logger,
    progress: Progress | None = None,
) -> RootFilesystem:
    """Find the interpreter, or have the image. `argv` is the kernel's command so far; `progress`
    is told the steps of a pull.

    Raises `ConfigurationError` for a program that this host does not have, and what
    `ensure_image` raises.
    """
    if settings.image:
        info = await ensure_image(
            engine,
            settings.image,
            policy=settings.pull_policy,
            deadline=settings.pull_timeout,
            log=log,
            progress=progress,
        )
        # A name costs a lookup; only user='image', or a root server, has to know its number.
        needed = settings.user == "image" or (settings.user == "auto" and not is_root(info.user))
        user = await image_user(engine, settings.image, info) if needed else None
        return RootFilesystem(
            image=pinned(settings.image, info) if settings.topology.is_swarm else settings.image,
            title=settings.image,
            argv=argv,
            version=info.id,
            user=user,
        )
    root = await asyncio.to_thread(_look_at_host, argv[0])
    if engine not in _have_host_image:
        try:
            await engine.inspect_image(root.image)
            _have_host_image.add(engine)
        except ImageMissing:
            await import_host_image(engine)
    return replace(root, argv=(*root.argv, *argv[1:]))
