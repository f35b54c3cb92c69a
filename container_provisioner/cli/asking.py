"""What a subcommand asks of an engine: which one, and for as long as the command runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..config import ContainerSettings
from ..engine.calls import Engine
from ..engine.find import close_engines, open_engine

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of `work`; engines that it opened are closed."""
    try:
        return asyncio.run(work)
    finally:
        close_engines()


async def the_engine() -> Engine:
    """The one that kernels run on whose stanza names no other: ``--engine-url``, else by the
    variables ``CONTAINER_PROVISIONER_ENGINE`` and ``…_ENGINE_URL``, else the first that answers.

    Raises `EngineNotFound`, `ConfigurationError`, TraitError.
    """
    settings = ContainerSettings()
    return await open_engine(settings.engine, settings.engine_url)
