"""The async face of an engine: every call in a thread, waited for even when it is cancelled.

The SDK blocks, and a thread cannot be cancelled. So a cancelled caller waits until the call in
progress has ended (the engine's deadline bounds that) before it unwinds: otherwise its undo would
run before the container that it is to undo exists.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from ..errors import EngineNotFound, EngineUnavailable
from ..spec import ContainerSpec
from .base import ContainerEngine, ContainerInfo, EngineInfo, ImageInfo, Progress
from .watcher import ExitWatcher, Watch

T = TypeVar("T")

# Bounds what a burst of kernels asks of the engine at once. Pulls take minutes and have threads
# of their own, so that they never hold up a signal.
CALL_THREADS = 8


def _is_transient(exc: BaseException) -> bool:
    return isinstance(exc, EngineUnavailable) and not isinstance(exc, EngineNotFound)


# Only for verbs that may run twice: reads, and those that are quiet when there is nothing to do.
_repeatable = retry(
    retry=retry_if_exception(_is_transient),
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(multiplier=0.1, max=2),
    reraise=True,
)


async def to_the_end(work: asyncio.Future[T]) -> T:
    """Wait for `work` however often the caller is cancelled, and only then let it be cancelled."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        work.cancelled() or work.exception()  # looked at: asyncio would log it as forgotten
        raise cancelled
    return work.result()


def _settle(call: Future[T], verb: Callable[..., T], *args: object) -> None:
    try:
        call.set_result(verb(*args))
    except Exception as exc:  # noqa: BLE001 - it is raised where the call is waited for
        call.set_exception(exc)


class Engine:
    """One per engine and process; shared by all its kernels, from any event loop."""

    def __init__(self, adapter: ContainerEngine) -> None:
        self.adapter = adapter
        self.watcher = ExitWatcher(adapter)
        self._calls = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="container-engine")
        self._info: EngineInfo | None = None

    @property
    def url(self) -> str:
        return self.adapter.url

    @property
    def is_local(self) -> bool:
        return self.adapter.is_local

    async def info(self) -> EngineInfo:
        """Asked once; an engine that was upgraded is a new engine to the next process."""
        if self._info is None:
            self._info = await self._call(self.adapter.info)
        return self._info

    async def create(self, spec: ContainerSpec) -> str:
        return await self._call(self.adapter.create, spec)

    async def start(self, container: str) -> None:
        await self._call(self.adapter.start, container)

    async def inspect(self, container: str) -> ContainerInfo:
        return await self._call(_repeatable(self.adapter.inspect), container)

    async def list_containers(self, labels: Mapping[str, str | None]) -> list[ContainerInfo]:
        return await self._call(_repeatable(self.adapter.list_containers), labels)

    async def rename(self, container: str, name: str) -> None:
        await self._call(self.adapter.rename, container, name)

    async def memory(self, container: str) -> int:
        return await self._call(_repeatable(self.adapter.memory), container)

    async def signal(self, container: str, signum: int) -> bool:
        return await self._call(self.adapter.signal, container, signum)

    async def unpause(self, container: str) -> None:
        await self._call(_repeatable(self.adapter.unpause), container)

    async def remove(self, container: str) -> None:
        await self._call(_repeatable(self.adapter.remove), container)

    async def logs(self, container: str, lines: int) -> str:
        return await self._call(_repeatable(self.adapter.logs), container, lines)

    async def upload(self, container: str, path: str, archive: bytes) -> None:
        await self._call(_repeatable(self.adapter.upload), container, path, archive)

    async def download(self, container: str, path: str) -> bytes:
        return await self._call(_repeatable(self.adapter.download), container, path)

    async def inspect_image(self, image: str) -> ImageInfo:
        return await self._call(_repeatable(self.adapter.inspect_image), image)

    async def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        await self._call(_repeatable(self.adapter.import_image), image, archive, labels)

    async def check(self, watch: Watch) -> ContainerInfo | None:
        """Inspect a watched container now, and resolve its watch if it has ended."""
        return await self._call(_repeatable(self.watcher.check), watch)

    async def pull(self, image: str, progress: Progress, deadline: float) -> None:
        """Raises `PullFailed`, or `TimeoutError` after `deadline` seconds.

        The engine goes on with a pull that was given up, as it does for ``docker pull``: the
        layers are there for the next try. So this is the one call that is not waited for.
        """
        call: Future[None] = Future()
        call.set_running_or_notify_cancel()
        # A daemon, and none of the pool's: the end of the process waits for those, and a registry
        # may never answer.
        threading.Thread(
            target=_settle,
            args=(call, self.adapter.pull, image, progress),
            name="container-pull",
            daemon=True,
        ).start()
        await asyncio.wait_for(asyncio.wrap_future(call), deadline)

    async def _call(self, verb: Callable[..., T], *args: object) -> T:
        try:
            work = self._calls.submit(verb, *args)
        except RuntimeError:
            # The interpreter is ending and its pools take no more work. `jupyter run` and others
            # shut their kernel down in an atexit callback; nothing else waits for the loop then.
            return verb(*args)
        return await to_the_end(asyncio.wrap_future(work))

    def close(self) -> None:
        """End the threads and close the connections. Blocks for calls under way."""
        self.watcher.close()
        self._calls.shutdown()
        self.adapter.close()
