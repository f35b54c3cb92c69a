"""Where a launch is, and how its kernel ended, for everybody in this process who wants to know.

A launch reports by its `Reporter`; who listens registers with `observe`. The server's events are
one listener. Nobody needs to listen: a report costs nothing then.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .engine.base import PullStep
from .exits import Cause, ExitStatus, cause_of, explain_exit
from .pulling import PullCounter, PullTotals

Stage = Literal["pulling", "creating", "starting", "ready", "oom", "exited", "failed"]
StartKind = Literal["cold", "warm", "in-place", "adopted"]

# Between two reports of a pull, and of processes that memory ran out for: both can come in floods.
PULL_SECONDS = 1.0
OOM_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """One stage of one kernel. What is not known yet, or does not apply, is empty.

    Holds no output of the kernel, no variables and no paths: a listener may pass it on.
    """

    stage: Stage
    kernel_id: str
    kernel_name: str = ""  # the kernelspec's
    image: str = ""  # as people call it
    container_id: str = ""
    start: StartKind | Literal[""] = ""
    seconds: float = 0.0  # since the launch began; after "ready", since the kernel was ready
    cause: Cause | Literal[""] = ""  # of "exited"
    exit_code: int | None = None  # of "exited"; None is also: nobody could see it
    error: str = ""  # of "failed": the class of the error
    reason: str = ""  # of "oom", "exited" and "failed": half a sentence
    pull: PullTotals | None = None  # of "pulling"
    manager: object = field(default=None, repr=False)  # the kernel's, of `jupyter_client`


Observer = Callable[[Report], None]
"""Called in the thread in which it happens, which may be an event loop's: it must not block. What
it raises is logged, and the kernel goes on."""

_observers: tuple[Observer, ...] = ()
_changing = threading.Lock()


def observe(observer: Observer) -> None:
    """From now on `observer` gets every report of this process."""
    global _observers
    with _changing:
        _observers = (*_observers, observer)


def stop_observing(observer: Observer) -> None:
    """Quiet when it does not observe."""
    global _observers
    with _changing:
        _observers = tuple(other for other in _observers if other != observer)


class Reporter:
    """Reports of one launch, and of the run that comes of it. From any thread.

    After "ready" there is one "exited", if anybody in this process is there to see it; otherwise
    "failed" is the last report.
    """

    def __init__(self, kernel_id: str, log: logging.Logger, manager: Any = None) -> None:
        self._log = log
        # The watch of a running kernel has us for good. A manager that nobody has is to go.
        self._manager = weakref.ref(manager) if manager is not None else lambda: None
        self._known: dict[str, Any] = {
            "kernel_id": kernel_id,
            "kernel_name": getattr(manager, "kernel_name", ""),
        }
        self._since = time.monotonic()
        self._pull, self._next_pull = PullCounter(), 0.0
        self._next_oom = 0.0
        self._ending = threading.Lock()  # taken once, by the first who reports the end

    def know(self, **facts: Any) -> None:
        """Fields that are the same in every report to come."""
        self._known |= facts

    def ready(self, *, image: str, container_id: str) -> None:
        self.know(image=image, container_id=container_id)
        self.tell("ready")
        self._since = time.monotonic()

    def failed(self, error: BaseException) -> None:
        """The launch raised. Its message stays with whoever catches it: it may quote the kernel."""
        name = type(error).__name__
        self.tell("failed", error=name, reason=f"the start failed ({name})")

    def pulling(self, step: PullStep) -> None:
        """A `Progress`: each step of the pull, of which some are reported."""
        self._pull.add(step)
        if (now := time.monotonic()) >= self._next_pull:
            self._next_pull = now + PULL_SECONDS
            self.tell("pulling", pull=self._pull.totals)

    def oom(self, reason: str) -> None:
        """A process in the container, not necessarily the kernel's own, was killed for memory."""
        if (now := time.monotonic()) >= self._next_oom:
            self._next_oom = now + OOM_SECONDS
            self.tell("oom", reason=reason)

    def exited(
        self, status: ExitStatus | None, *, requested: bool, memory_limit: int | None = None
    ) -> None:
        """`requested` by this process. None: it was removed, and nobody saw it end."""
        if not self._ending.acquire(blocking=False):
            return
        status = status or ExitStatus(code=1, removed=True)
        cause = cause_of(status, requested=requested)
        reason = explain_exit(status, requested=requested, memory_limit=memory_limit)
        if cause == "memory":
            self.oom(reason)  # its event may come after the end, or never
        elif cause == "error":
            reason = "the engine reports an error"  # its words may have paths in them
        elif cause == "requested" and status.removed:
            reason = "it was removed at our request"
        code = None if status.removed else status.code
        self.tell("exited", cause=cause, exit_code=code, reason=reason)

    def tell(self, stage: Stage, **facts: Any) -> None:
        observers = _observers
        if not observers:
            return
        seconds = time.monotonic() - self._since
        known = {**self._known, "manager": self._manager()}
        report = Report(stage=stage, seconds=seconds, **known, **facts)
        for observer in observers:
            try:
                observer(report)
            except Exception:  # noqa: BLE001 - it is the listener's; a kernel does not wait for it
                self._log.exception(
                    "Kernel %s: %s was reported in vain; the kernel goes on.",
                    report.kernel_id,
                    stage,
                )
