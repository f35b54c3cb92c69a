"""One thread per engine that knows which of our containers have ended, and how.

A thread, not a task: the blocking KernelManager runs its event loop only while a call is in
progress, so a task would miss every exit between calls.

Guarantees: each `Watch` is resolved at most once, and only by what an inspection of the container
said. Events are hints to look, the list is the truth: the stream is opened first and the list
taken second, after every drop again and every `relist_seconds` of the engine, so that an exit
during a gap is seen. An engine that does not answer resolves nothing: unknown is not dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from .. import labels
from ..errors import ContainerGone, EngineUnavailable
from ..exits import ExitStatus
from .base import ENDED, ContainerEngine, ContainerInfo, EventStream

_MAX_PAUSE = 15.0  # seconds between two tries to reach an engine that does not answer

# Who runs one kernel after the other need not connect and list for each.
IDLE_SECONDS = 5.0


class Watch:
    """One run of one container. `status` is None while it runs, or while nobody can tell."""

    def __init__(self, container_id: str, on_oom: Callable[[], None] | None = None) -> None:
        self.container_id = container_id
        self.ended: Future[ExitStatus] = Future()
        self.on_oom = on_oom  # called from the watcher's thread

    async def wait(self) -> ExitStatus:
        """Until the run has ended, in any event loop. Nothing is asked meanwhile."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: Future[ExitStatus]) -> None:
            with contextlib.suppress(RuntimeError):  # that loop has been closed
                loop.call_soon_threadsafe(ended.set)

        # Not asyncio.wrap_future: who gives up waiting would cancel the watch for everybody.
        self.ended.add_done_callback(tell)
        await ended.wait()
        return self.ended.result()

    @property
    def status(self) -> ExitStatus | None:
        return self.ended.result() if self.ended.done() else None


class ExitWatcher:
    """Follows the containers it was given. The thread runs while there are some, and for
    `IDLE_SECONDS` afterwards."""

    def __init__(self, adapter: ContainerEngine) -> None:
        self.log: logging.Logger = logging.getLogger(__name__)
        self._adapter = adapter
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._stream: EventStream | None = None
        self._idle: threading.Timer | None = None
        self._failed = False  # the last try to reach the engine

    @property
    def is_cut_off(self) -> bool:
        """Whether it follows containers, and cannot say now which of them have ended."""
        return self._failed and self._thread is not None

    def follow(self, container_id: str, on_oom: Callable[[], None] | None = None) -> Watch:
        """Start watching a container that was just started.

        Call it after the start and inspect the container once afterwards (see `check`): an exit
        in between is then seen by one of the two, and the exit of an earlier run by neither.
        """
        watch = Watch(container_id, on_oom)
        with self._lock:
            self._watches[container_id] = watch
            if self._thread is None:
                self._stop, self._failed = threading.Event(), False
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="container-watcher", daemon=True
                )
                self._thread.start()
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop watching. Some time after the last one the thread ends."""
        with self._lock:
            if self._watches.get(watch.container_id) is watch:
                del self._watches[watch.container_id]
            if self._watches or self._thread is None or self._idle is not None:
                return
            self._idle = threading.Timer(IDLE_SECONDS, self._end, kwargs={"only_if_idle": True})
            self._idle.daemon = True
            self._idle.start()

    def close(self) -> None:
        """End the thread and wait for it."""
        thread = self._end()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1)

    def _end(self, *, only_if_idle: bool = False) -> threading.Thread | None:
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            if only_if_idle and self._watches:
                return None
            thread, self._thread = self._thread, None
            self._stop.set()
            stream, self._stream = self._stream, None
        if stream is not None:
            self._close_stream(stream)
        return thread

    def check(self, watch: Watch) -> ContainerInfo | None:
        """Look at the container, and resolve the watch if it has ended. Blocks for one call.

        Returns what was seen; None when the container is gone.
        """
        try:
            info = self._adapter.inspect(watch.container_id)
        except ContainerGone:
            self._resolve(watch, ExitStatus(code=1, removed=True))
            return None
        if (status := info.exit_status) is not None:
            self._resolve(watch, status)
        return info

    def _resolve(self, watch: Watch, status: ExitStatus) -> None:
        with self._lock:
            if not watch.ended.done():
                watch.ended.set_result(status)

    def _run(self, stop: threading.Event) -> None:
        connecting = Retrying(
            retry=retry_if_exception_type(),  # any: a thread that dies would miss every exit
            wait=wait_random_exponential(multiplier=0.5, max=_MAX_PAUSE),
            stop=stop_when_event_set(stop),
            sleep=sleep_using_event(stop),
            before_sleep=self._failed_to_follow,
        )
        while not stop.is_set():
            try:
                connecting(self._follow_stream, stop)
            except RetryError:
                return  # told to stop
            # The engine ended the stream in good order; do not turn that into a busy loop.
            stop.wait(0.1)

    def _follow_stream(self, stop: threading.Event) -> None:
        stream = self._adapter.events(since=int(time.time()) - 1)
        with self._lock:
            if stop.is_set():
                self._close_stream(stream)
                return
            self._stream = stream
        # A stream that went quiet blocks this thread; only another one can end it.
        seconds = self._adapter.relist_seconds
        alarm = threading.Timer(seconds, self._close_stream, args=(stream,))
        alarm.daemon = True
        alarm.start()
        try:
            self._reconcile()
            self._failed = False
            try:
                for event in stream:
                    self._handle(event.action, event.container_id)
            except EngineUnavailable:
                self.log.debug("The event stream broke; listing containers and following again.")
        finally:
            alarm.cancel()
            self._close_stream(stream)

    def _reconcile(self) -> None:
        states = {
            item.id: item.state for item in self._adapter.list_containers({labels.KERNEL_ID: None})
        }
        with self._lock:
            watches = list(self._watches.values())
        for watch in watches:
            if watch.status is None and states.get(watch.container_id, "dead") in ENDED:
                self.check(watch)

    def _handle(self, action: str, container_id: str) -> None:
        with self._lock:
            watch = self._watches.get(container_id)
        if watch is None or watch.status is not None:
            return
        if action == "oom" and watch.on_oom is not None:
            watch.on_oom()
        elif action in ("die", "destroy"):
            self.check(watch)

    def _failed_to_follow(self, state: RetryCallState) -> None:
        self._failed = True
        if state.attempt_number == 1 and state.outcome is not None and self._watches:
            self.log.warning(
                "%s. Kernels whose state is unknown are taken to be alive; trying again.",
                state.outcome.exception(),
            )

    def _close_stream(self, stream: EventStream) -> None:
        try:
            stream.close()
        except EngineUnavailable:
            self.log.debug("The event stream was closed already.")
