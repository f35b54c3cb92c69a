"""A kernel's container has one name. Who gets it, when somebody has it already?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from . import labels
from .engine.base import RUNNING, ContainerInfo
from .engine.calls import Engine
from .errors import ContainerGone, EngineError, KernelRuns, NameTaken

# A container that is being removed keeps its name until the engine is done with it.
NAME_SECONDS = 10


async def under_name(
    engine: Engine,
    name: str,
    take: Callable[[], Awaitable[str]],
    launch_id: str,
    kernel_id: str,
) -> str:
    """`take` the name for a container of `launch_id`, by creation or renaming; returns its id.

    When the name is taken, look at who has it: the labels decide, not the name. An ended container
    of the same kernel makes way. Raises `KernelRuns` for one that runs, `EngineError` for
    one that is not the kernel's; nothing is changed then.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(NameTaken),
        stop=stop_after_delay(NAME_SECONDS),
        wait=wait_exponential(multiplier=0.05, max=1),
        reraise=True,
    ):
        with attempt:
            try:
                return await take()
            except NameTaken:
                try:
                    found = await engine.inspect(name)
                except ContainerGone:
                    raise NameTaken(f"Container name {name} is being freed.") from None
                if found.labels.get(labels.LAUNCH_ID) == launch_id:
                    return found.id  # done, but the answer was lost
                await _make_way(engine, found, kernel_id)
                raise
    raise AssertionError("unreachable: the last attempt raises")


async def clear_name(engine: Engine, name: str, kernel_id: str) -> None:
    """As `under_name`, ahead of it: what a launch writes first is in one place per kernel.

    Raises the same errors.
    """
    try:
        found = await engine.inspect(name)
    except ContainerGone:
        return
    await _make_way(engine, found, kernel_id)


async def _make_way(engine: Engine, found: ContainerInfo, kernel_id: str) -> None:
    """Remove an ended predecessor of the same kernel; refuse for anything else."""
    if not labels.is_of_kernel(found.name, found.labels, kernel_id):
        raise EngineError(
            f"The container name {found.name} is taken by container {found.id[:12]}, which is "
            "not this kernel's. Rename or remove it."
        )
    if found.state in RUNNING:
        raise KernelRuns(found.id)
    await engine.remove(found.id)
