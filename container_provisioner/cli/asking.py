"""What a subcommand asks of an engine: which one, and for as long as the command runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from ..config import ContainerSettings
from ..engine.calls import Engine
from ..engine.find import close_engines, open_engine, open_swarm
from ..trait_types import ENVIRONMENT_PREFIX

T = TypeVar("T")

ENGINE_URL = f"{ENVIRONMENT_PREFIX}ENGINE_URL"
_GIVEN = f"{__name__}.engine_url"
_SWARM = f"{ENVIRONMENT_PREFIX}SWARM"
"""Set to anything, as ``--swarm`` does: the kernels meant are services of the engine's swarm."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of `work`; engines that it opened are closed."""
    try:
        return asyncio.run(work)
    finally:
        close_engines()


def use_engine(url: str) -> None:
    """Ask the engine at that URL, and start kernels there."""
    os.environ[ENGINE_URL] = url
    click.get_current_context().meta[_GIVEN] = url


def given_engine() -> str:
    """The URL that ``--engine-url`` gave; empty when it was not used."""
    return str(click.get_current_context().meta.get(_GIVEN, ""))


def use_swarm() -> None:
    """Have the kernels meant be those of the engine's swarm."""
    os.environ[_SWARM] = "1"


def swarm_is_meant() -> bool:
    return bool(os.environ.get(_SWARM))


async def the_engine(*, of_images: bool = False) -> Engine:
    """The engine of kernels whose stanza names none: ``--engine-url``, else by the
    variables ``CONTAINER_PROVISIONER_ENGINE`` and ``…_ENGINE_URL``, else the first that answers.
    With ``--swarm`` it is that one's swarm, but for what is done with images (`of_images`).

    Raises `EngineNotFound`, `EngineMismatch`, `ConfigurationError`, TraitError.
    """
    settings = ContainerSettings()
    engine = await open_engine(settings.engine, settings.engine_url)
    return await open_swarm(engine) if swarm_is_meant() and not of_images else engine
