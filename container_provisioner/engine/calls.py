"""The async face of an engine: every call in a thread, waited for even when it is cancelled.

The SDK blocks, and a thread cannot be cancelled. So a cancelled caller waits until the call in
progress has ended (the engine's deadline bounds that) before it unwinds: otherwise its undo would
run before the container that it is to undo exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from ..errors import (
    BuildFailed,
    ContainerGone,
    EngineError,
    EngineNotFound,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
    NetworkMissing,
)
from ..spec import ContainerSpec
from ..topology import OwnContainer
from .base import (
    BuildProgress,
    BuildRequest,
    ContainerEngine,
    ContainerInfo,
    EngineInfo,
    Execution,
    ImageInfo,
    NetworkInfo,
    Output,
    Progress,
    Usage,
)
from .own_container import find_own_container, own_ids
from .watcher import ExitWatcher, Watch

T = TypeVar("T")

# Bounds what a burst of kernels asks of the engine at once. Pulls take minutes and have threads
# of their own, so that they never hold up a signal.
CALL_THREADS = 8

# Measuring is waiting: an older engine answers at its next round, which is once a second. So many
# can wait together, and hold up nothing else.
MEASURING_THREADS = 32

# What is asked for is not there, or is there already: an engine that says so is well.
_ANSWERS = (ContainerGone, ImageMissing, NameTaken, NetworkMissing)


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


def _in_a_daemon(name: str, verb: Callable[..., T], *args: object) -> asyncio.Future[T]:
    """Run it in a thread that nobody has to wait for: an engine or registry may never answer, and
    the end of the process waits for those of a pool."""
    call: Future[T] = Future()
    call.set_running_or_notify_cancel()
    threading.Thread(target=_settle, args=(call, verb, *args), name=name, daemon=True).start()
    return asyncio.wrap_future(call)


class Engine:
    """One per engine and process; shared by all its kernels, from any event loop."""

    def __init__(self, adapter: ContainerEngine) -> None:
        self.adapter = adapter
        self.watcher = ExitWatcher(adapter)
        self._calls = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="container-engine")
        self._measuring = ThreadPoolExecutor(
            MEASURING_THREADS, thread_name_prefix="container-usage"
        )
        self._info: EngineInfo | None = None
        self.own: OwnContainer | None = None  # in which this process runs; see `look_around`
        self.errors: Counter[str] = Counter()  # calls that failed in the end, by the error's class

    @property
    def url(self) -> str:
        return self.adapter.url

    @property
    def is_local(self) -> bool:
        return self.adapter.is_local or self.own is not None

    async def look_around(self) -> None:
        """Find out whether this process runs in one of the engine's containers."""
        if any(own_ids()):
            self.own = await self._call(_repeatable(find_own_container), self.adapter)

    async def info(self) -> EngineInfo:
        """Asked once; an engine that was upgraded is a new engine to the next process."""
        if self._info is None:
            # It changes nothing: who gives up waiting for an engine that is silent need not wait.
            self._info = await _in_a_daemon("container-info", self.adapter.info)
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

    async def usage(self, container: str) -> Usage:
        return await self._call(_repeatable(self.adapter.usage), container, threads=self._measuring)

    async def signal(self, container: str, signum: int) -> bool:
        return await self._call(self.adapter.signal, container, signum)

    async def unpause(self, container: str) -> None:
        await self._call(_repeatable(self.adapter.unpause), container)

    async def remove(self, container: str) -> None:
        await self._call(_repeatable(self.adapter.remove), container)

    async def logs(self, container: str, lines: int) -> str:
        return await self._call(_repeatable(self.adapter.logs), container, lines)

    async def output(
        self, container: str, *, lines: int | None, follow: bool
    ) -> AsyncGenerator[Output, None]:
        """Read a log, in a thread of the loop's own. Ends, too, when it is closed or cancelled."""
        stream = await self._call(self.adapter.output, container, lines, follow)
        parts = iter(stream)
        try:
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                yield part
        finally:
            stream.close()

    async def upload(self, container: str, path: str, archive: bytes) -> None:
        await self._call(_repeatable(self.adapter.upload), container, path, archive)

    async def download(self, container: str, path: str, limit: int | None = None) -> bytes:
        return await self._call(_repeatable(self.adapter.download), container, path, limit)

    async def execute(self, container: str, argv: Sequence[str]) -> Execution:
        """The `Execution` itself blocks: to be used in a thread."""
        return await self._call(self.adapter.execute, container, argv)

    async def inspect_image(self, image: str) -> ImageInfo:
        return await self._call(_repeatable(self.adapter.inspect_image), image)

    async def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        await self._call(_repeatable(self.adapter.import_image), image, archive, labels)

    async def networks(self, name: str) -> list[NetworkInfo]:
        return await self._call(_repeatable(self.adapter.networks), name)

    async def create_network(
        self, name: str, *, bridge: str, internal: bool, labels: Mapping[str, str]
    ) -> None:
        create = partial(
            self.adapter.create_network, bridge=bridge, internal=internal, labels=labels
        )
        await self._call(create, name)

    async def remove_network(self, name: str) -> bool:
        return await self._call(_repeatable(self.adapter.remove_network), name)

    async def unused_volumes(self, labels: Mapping[str, str | None]) -> list[str]:
        return await self._call(_repeatable(self.adapter.unused_volumes), labels)

    async def remove_volume(self, name: str) -> bool:
        return await self._call(_repeatable(self.adapter.remove_volume), name)

    async def list_images(self, labels: Mapping[str, str | None]) -> list[ImageInfo]:
        return await self._call(_repeatable(self.adapter.list_images), labels)

    async def remove_image(self, image: str) -> None:
        await self._call(_repeatable(self.adapter.remove_image), image)

    async def check(self, watch: Watch) -> ContainerInfo | None:
        """Inspect a watched container now, and resolve its watch if it has ended."""
        return await self._call(_repeatable(self.watcher.check), watch)

    async def pull(self, image: str, progress: Progress, deadline: float) -> None:
        """Raises `PullFailed`, or `TimeoutError` after `deadline` seconds.

        The engine goes on with a pull that was given up, as it does for ``docker pull``: the
        layers are there for the next try. So this is the one call that is not waited for.
        """
        call = _in_a_daemon("container-pull", self.adapter.pull, image, progress)
        await asyncio.wait_for(call, deadline)

    async def build(self, request: BuildRequest, progress: BuildProgress) -> str:
        """The image's id. Raises `BuildFailed`.

        A cancelled caller ends the build, and waits until it has been cleared away.
        """
        build = self.adapter.build(request)
        work = _in_a_daemon("container-build", build.run, progress)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            build.cancel()
            with contextlib.suppress(BuildFailed):
                await to_the_end(work)
            raise

    async def _call(
        self,
        verb: Callable[..., T],
        *args: object,
        threads: ThreadPoolExecutor | None = None,
    ) -> T:
        try:
            work = (threads or self._calls).submit(verb, *args)
        except RuntimeError:
            # The interpreter is ending and its pools take no more work. `jupyter run` and others
            # shut their kernel down in an atexit callback; nothing else waits for the loop then.
            return verb(*args)
        try:
            return await to_the_end(asyncio.wrap_future(work))
        except EngineError as exc:
            if not isinstance(exc, _ANSWERS):
                self.errors[type(exc).__name__] += 1
            raise

    def close(self) -> None:
        """End the threads and close the connections. Blocks for calls under way."""
        self.watcher.close()
        self._calls.shutdown()
        self._measuring.shutdown()
        self.adapter.close()
