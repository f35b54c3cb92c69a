"""One kernel's container, from its start to its removal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import labels
from .engine.base import ContainerInfo
from .engine.calls import Engine
from .engine.watcher import Watch
from .errors import ContainerGone, EngineError, KernelNotAdoptable
from .exits import ExitStatus, explain_exit, explain_start, format_size, log_tail
from .stages import Reporter

LOG_LINES = 20


@dataclass(frozen=True, kw_only=True)
class ContainerIdentity:
    """What tells this container from every other, and what is said about it. JSON-safe."""

    kernel_id: str
    launch_id: str
    container_id: str
    container_name: str
    image: str  # as people call it
    argv: tuple[str, ...]
    spec_digest: str
    memory_limit: int | None = None  # bytes
    on_server_exit: str = "stop"

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ContainerIdentity:
        """Raises `KernelNotAdoptable` when a field is missing or of the wrong kind."""
        known = {name: fields.get(name) for name in cls.__dataclass_fields__}
        texts = {
            name: value
            for name, value in known.items()
            if name not in ("argv", "memory_limit", "on_server_exit")
        }
        missing = sorted(name for name, value in texts.items() if not isinstance(value, str))
        if missing:
            raise KernelNotAdoptable(f"The provisioner info lacks {', '.join(missing)}.")
        limit, policy = fields.get("memory_limit"), fields.get("on_server_exit")
        argv = fields.get("argv")
        return cls(
            **texts,  # type: ignore[arg-type]
            argv=tuple(map(str, argv)) if isinstance(argv, (list, tuple)) else (),
            memory_limit=limit if isinstance(limit, int) else None,
            on_server_exit="keep" if policy == "keep" else "stop",
        )


@dataclass(kw_only=True)
class KernelContainer:
    """A running or ended container of ours. Every verb is quiet when there is nothing to do."""

    engine: Engine
    identity: ContainerIdentity
    log: logging.Logger
    end_requested: bool = False  # by us: what follows is no surprise
    reporter: Reporter | None = None  # of its present run; set it before `follow`, or `report_to`
    _watch: Watch | None = field(default=None, repr=False)

    async def follow(self) -> ContainerInfo | None:
        """Watch a run that has just begun; call it after each start. None: gone already."""
        return await self.engine.check(self.watch())

    async def look(self) -> ContainerInfo | None:
        """Look again at a run that is watched already. None: gone."""
        return await self.engine.check(self._watch or self.watch())

    def watch(self) -> Watch:
        """Watch a run without a look at it: it will show by itself that it goes on."""
        self.end_requested = False
        self._watch = self.engine.watcher.follow(self.identity.container_id, self._on_oom)
        if self.reporter is not None:
            self.report_to(self.reporter)
        return self._watch

    def report_to(self, reporter: Reporter) -> None:
        """Have it said when memory runs out, and how it ends: of a run that is watched already."""
        self.reporter = reporter
        if self._watch is not None:
            self._watch.ended.add_done_callback(lambda ended: self._report_end(ended.result()))

    def unfollow(self) -> None:
        """Stop watching; the status that was seen last stays."""
        if self._watch is not None:
            self.engine.watcher.forget(self._watch)

    @property
    def status(self) -> ExitStatus | None:
        """None while it runs, or while nobody can tell. Reads the watcher; no engine call."""
        return self._watch.status if self._watch is not None else None

    async def wait(self) -> ExitStatus:
        """Until the run that is watched has ended. The caller bounds the time."""
        return await (self._watch or self.watch()).wait()

    async def signal(self, signum: int) -> None:
        """To the kernel's process group. 0 only asks whether there is one, as does `status`."""
        if signum != 0 and self.status is None:
            await self.engine.signal(self.identity.container_id, signum)

    async def end(self, signum: int) -> None:
        """SIGKILL or SIGTERM: see `end_container`."""
        self.end_requested = True
        if self.status is None:
            await end_container(self.engine, self.identity.container_id, signum)

    async def remove(self) -> None:
        """End and remove it. Raises `EngineError` when the engine does not do it."""
        self.end_requested = True
        await self.engine.remove(self.identity.container_id)
        self.unfollow()
        self._report_end(self.status)

    async def explain(self, status: ExitStatus, *, starting: bool = False) -> str:
        """One line that says why it ended: the cause, which container, its last words."""
        image, argv = self.identity.image, self.identity.argv
        tail = await self.last_words()
        why = explain_start(status, tail, argv=argv, image=image) if starting else None
        why = why or explain_exit(
            status, requested=self.end_requested, memory_limit=self.identity.memory_limit
        )
        last = f" Last output: {tail}" if tail else ""
        return f"{why}. Container {self.identity.container_id[:12]}, image {image}.{last}"

    async def last_words(self) -> str:
        """The end of its log, on one printable line; empty when it printed nothing."""
        try:
            return log_tail(await self.engine.logs(self.identity.container_id, LOG_LINES))
        except EngineError as exc:
            return f"(the log cannot be read: {exc})"

    def _on_oom(self) -> None:
        limit = self.identity.memory_limit
        note = f" (memory_limit is {format_size(limit)})" if limit else ""
        self.log.warning(
            "Kernel %s: a process in container %s was killed because memory ran out%s.",
            self.identity.kernel_id,
            self.identity.container_id[:12],
            note,
        )
        if self.reporter is not None:
            self.reporter.oom(f"a process was killed because memory ran out{note}")

    def _report_end(self, status: ExitStatus | None) -> None:
        if self.reporter is not None:
            self.reporter.exited(
                status, requested=self.end_requested, memory_limit=self.identity.memory_limit
            )


async def end_container(engine: Engine, container: str, signum: int) -> None:
    """SIGKILL or SIGTERM. A paused container is unpaused first: it could not act on it."""
    if not await engine.signal(container, signum):
        await engine.unpause(container)
        await engine.signal(container, signum)


async def remove_launch(engine: Engine, container: str, launch_id: str) -> None:
    """Remove it, by name or id, if that launch made it; somebody else's is left alone."""
    try:
        found = await engine.inspect(container)
    except ContainerGone:
        found = None
    if found is not None and found.labels.get(labels.LAUNCH_ID) == launch_id:
        await engine.remove(found.id)
