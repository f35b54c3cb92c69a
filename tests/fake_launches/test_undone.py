"""A launch that fails, takes too long or is cancelled at any step leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import threading
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner.engine.base import ImageInfo
from container_provisioner.errors import (
    ContainerProvisionerError,
    EngineError,
    EngineUnavailable,
)

from ..fake_container import FakeContainer, Gate, open_sockets
from .conftest import Launches, until

# In the order of a launch. A root filesystem that can be written takes an upload.
VERBS = [
    ("info", 1),
    ("inspect_image", 1),
    ("create", 1),
    ("upload", 1),
    ("start", 1),
    ("inspect", 1),  # does it run?
]


async def test_cancelled_while_the_engine_says_who_it_is(launches: Launches):
    """Nothing can come of that: the caller is not kept waiting for an engine that is silent."""
    gate = launches.fake.before["info"] = Gate(1)
    start = asyncio.create_task(launches.start())
    await asyncio.to_thread(gate.reached.wait, 30)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    gate.release()
    assert launches.left() == []


@pytest.mark.parametrize(("verb", "call"), VERBS[1:])
async def test_cancelled_while_the_engine_is_at_it(launches: Launches, verb: str, call: int):
    """F27: the call cannot be taken back; what it makes after the cancellation is undone."""
    gate = launches.fake.before[verb] = Gate(call)
    start = asyncio.create_task(launches.start(profile="dev"))
    await asyncio.to_thread(gate.reached.wait, 30)
    start.cancel()
    await asyncio.wait([start], timeout=0.2)
    assert not start.done(), "the undo would run before there is anything to undo"
    gate.release()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert launches.left() == []


async def test_cancelled_while_an_image_is_pulled(launches: Launches):
    """F27: the one call that is not waited for; the engine goes on with it by itself."""
    launches.fake.registry["other:1"] = ImageInfo(id="sha256:other", user="1000")
    gate = launches.fake.before["pull"] = Gate()
    start = asyncio.create_task(launches.start(image="other:1"))
    await asyncio.to_thread(gate.reached.wait, 30)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    gate.release()
    await until(lambda: "other:1" in launches.fake.images)
    assert launches.left() == []


class CancelledAt:
    """Awaits `work`, in a task that is cancelled when it waits for the `step`-th time."""

    def __init__(self, step: int, work: Coroutine[Any, Any, Any]) -> None:
        self.step, self.work = step, work

    def __await__(self) -> Generator[Any, Any, Any]:
        task, awaited = asyncio.current_task(), self.work.__await__()
        assert task is not None
        waits, resume = 0, awaited.__next__
        while True:
            try:
                waiting_for = resume()
            except StopIteration as end:
                return end.value
            waits += 1
            if waits == self.step:
                task.cancel()
            resume = awaited.__next__
            try:
                yield waiting_for
            except asyncio.CancelledError as exc:
                resume = functools.partial(awaited.throw, exc)


async def test_cancelled_wherever_it_waits(launches: Launches):
    """F27: at the first await, at the second, and so on, to the last one before it is up."""
    launches.fake.on_start = opens_slowly
    for step in itertools.count(1):
        manager = launches.manager(profile="dev")

        async def start(step: int = step, manager: AsyncKernelManager = manager) -> None:
            await CancelledAt(step, manager.start_kernel(cwd=str(launches.folder)))

        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.create_task(start())
        if manager.has_kernel:
            break
        assert launches.left() == [], f"cancelled at await {step}"
    assert step > len(VERBS), "it waits for each verb, and for the kernel"


def opens_slowly(container: FakeContainer) -> None:
    def open_late() -> None:
        with contextlib.suppress(FileNotFoundError):  # undone meanwhile
            open_sockets(container)

    threading.Timer(0.1, open_late).start()


@pytest.mark.parametrize(("verb", "call"), VERBS)
async def test_cancelled_twice(launches: Launches, verb: str, call: int):
    """F27: the one who cancels loses patience, while the undo is at it."""
    gate = launches.fake.before[verb] = Gate(call)
    start = asyncio.create_task(launches.start(profile="dev"))
    await asyncio.to_thread(gate.reached.wait, 30)
    del launches.fake.before[verb]
    undo = {name: Gate() for name in ("inspect", "remove")}
    launches.fake.before.update(undo)
    start.cancel()
    await asyncio.sleep(0.05)
    gate.release()
    for step in undo.values():
        if await asyncio.to_thread(step.reached.wait, 0.5):
            start.cancel()
            await asyncio.sleep(0.05)
        step.release()
    with pytest.raises(asyncio.CancelledError):
        await start
    await until(lambda: launches.left() == [])


@pytest.mark.parametrize(("verb", "call"), VERBS)
@pytest.mark.parametrize("exc", [EngineUnavailable("read timed out"), EngineError("no space left")])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_verb_that_fails_is_one_clear_error(
    launches: Launches, verb: str, call: int, exc: EngineError, moment: str
):
    """F27. After: the engine did it, and the answer was lost."""
    hooks = getattr(launches.fake, moment)
    calls = itertools.count(1)
    tries = 1 if type(exc) is EngineError else 3  # what may be repeated is

    def hook() -> None:
        if call <= next(calls) < call + tries:
            raise exc

    hooks[verb] = hook
    with pytest.raises(ContainerProvisionerError) as caught:
        await launches.start(profile="dev")
    manager = launches.managers[0]
    assert caught.value.kernel_id == manager.kernel_id or verb == "info"
    assert str(exc) in str(caught.value)
    assert not manager.has_kernel
    assert launches.left() == []
