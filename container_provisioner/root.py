"""The kernel's root filesystem, made ready: the host's environment or an image, one value."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import host_environment
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
    user: KernelUser | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    is_host: bool = False


async def prepare_root(
    engine: Engine, settings: Settings, argv: tuple[str, ...], log: logging.Logger
) -> RootFilesystem:
    """Find the interpreter, or have the image. `argv` is the kernel's command so far.

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
        )
        # A name costs a lookup; only user='image', or a root server, has to know its number.
        needed = settings.user == "image" or (settings.user == "auto" and not is_root(info.user))
        user = await image_user(engine, settings.image, info) if needed else None
        return RootFilesystem(image=settings.image, title=settings.image, argv=argv, user=user)
    program = await asyncio.to_thread(host_environment.find_program, argv[0])
    image, layer = host_environment.empty_image()
    try:
        await engine.inspect_image(image)
    except ImageMissing:
        await engine.import_image(image, layer, host_environment.IMAGE_LABELS)
    return RootFilesystem(
        image=image,
        title="host environment",
        argv=(program.path, *argv[1:]),
        environment=host_environment.host_variables(program),
        mounts=host_environment.host_mounts(program),
        is_host=True,
    )
