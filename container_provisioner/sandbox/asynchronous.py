"""The sandbox itself: one kernel after the other, each in a container of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from ..adoptable import AdoptableKernel
from ..config import ContainerSettings
from ..engine.calls import to_the_end
from ..errors import (
    ConfigurationError,
    EngineError,
    KernelDied,
    KernelNotRunning,
    StartTimeout,
)
from ..exits import KILLED, ExitStatus, cause_of, explain_exit
from ..provisioner import ContainerProvisioner
from ..trait_types import parse_size
from . import files
from .answers import Answer, Died, Finished, Output, Raised, TimedOut, TooMuchOutput, merged
from .channels import Channels
from .hearing import Hearing, readable
from .kernelspec import OneKernelspec, find_kernelspec
from .notebook import run_cells

# A library's: silent until somebody configures logging.
_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())

# After the reply: what the code wrote is on its way, and when it has come the kernel is idle.
_IDLE_SECONDS = 5.0
# After the connection broke: until the engine says that it was the kernel's end.
_END_SECONDS = 0.3
# Between two requests to a kernel that has just started.
_ASK_SECONDS = 0.5

NOT_STARTED = "The sandbox has not been started, or was closed: use it in a 'with' statement."
_GONE = "Nothing was done: the sandbox has no kernel until it is restarted."

FILE_LIMIT = 100 * 1024**2


class AsyncSandbox:
    """As `Sandbox`, for an event loop: ``async with AsyncSandbox() as sandbox:``, and each method
    is awaited. `on_output` is called in the loop."""

    def __init__(
        self,
        image: str = "",
        *,
        kernel: str = "",
        folder: str | Path | None = None,
        output_limit: str = "10m",
        interrupt_timeout: float = 5.0,
        **settings: Any,
    ) -> None:
        config = {"on_server_exit": "stop", **settings}
        if image:  # else what the environment names, as for every other setting
            config["image"] = image
        if folder is None:
            config.setdefault("workspace", "none")
        # Refuses what is unknown, and what contradicts each other.
        self._settings = ContainerSettings(**config)
        self._settings.settings()
        try:
            self._limit = parse_size(output_limit) or 0
        except ValueError as exc:
            raise ConfigurationError(f"output_limit: {exc}, such as '10m'.") from exc
        if not self._limit:
            raise ConfigurationError("output_limit has to be a size, such as '10m'.")
        self._config, self._kernel = config, kernel
        self._folder = str(Path(folder or os.curdir).absolute())
        self._interrupt_timeout = interrupt_timeout
        self._turn = asyncio.Lock()
        self._manager: AsyncKernelManager | None = None
        self._channels: Channels | None = None
        self._death: Died | None = None

    async def __aenter__(self) -> AsyncSandbox:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def alive(self) -> bool:
        """Whether a kernel is there and, as far as is known, runs."""
        manager = self._manager
        provisioner = manager.provisioner if manager is not None else None
        return isinstance(provisioner, ContainerProvisioner) and provisioner.exit_status is None

    @property
    def container_id(self) -> str:
        """Of the container. Raises `KernelNotRunning` when there is none."""
        return self._facts.identity.container_id

    # -- its life ---------------------------------------------------------------------------

    async def start(self) -> None:
        async with self._turn:
            if self._manager is None:
                await self._start()

    async def restart(self) -> None:
        async with self._turn:
            await self._remove()
            await self._start()

    async def close(self) -> None:
        async with self._turn:
            await self._remove()
            self._death = None

    async def _start(self) -> None:
        self._death = None
        settings = self._settings.settings()
        spec = await find_kernelspec(self._kernel, self._config, settings, _log)
        manager = AsyncKernelManager(
            kernel_name="sandbox", kernel_spec_manager=OneKernelspec(spec=spec), log=_log
        )
        self._manager = manager
        try:
            await manager.start_kernel(cwd=self._folder)
            self._channels = Channels(manager, self._limit)
            await self._channels.connect()
            await self._until_ready(self._channels, settings.start_timeout)
        except BaseException:
            await to_the_end(asyncio.ensure_future(self._remove()))
            raise

    async def _until_ready(self, channels: Channels, timeout: float) -> None:
        what = await _first(
            timeout, answered=_answered(channels), ended=self._provisioner.until_ended()
        )
        if what == "ended":
            await self._provisioner.poll()
            raise KernelDied(f"It never answered. {self._provisioner.reason}")
        if not what:
            raise StartTimeout(f"The kernel did not answer within {timeout:g} s (start_timeout).")
        channels.ignore()

    async def _remove(self) -> None:
        manager, self._manager = self._manager, None
        channels, self._channels = self._channels, None
        if channels is not None:
            channels.close()
        if manager is not None and manager.has_kernel:
            # Now: what is in there is not asked whether it would like to end.
            await manager.shutdown_kernel(now=True)

    @property
    def _provisioner(self) -> ContainerProvisioner:
        provisioner = self._manager.provisioner if self._manager is not None else None
        if not isinstance(provisioner, ContainerProvisioner):
            raise self._no_kernel()
        return provisioner

    @property
    def _facts(self) -> AdoptableKernel:
        facts = self._provisioner.facts
        if facts is None:
            raise self._no_kernel()
        return facts

    def _no_kernel(self) -> KernelNotRunning:
        if self._death is not None:
            return KernelNotRunning(f"{_GONE} {self._death.reason}")
        return KernelNotRunning(NOT_STARTED)

    # -- code -------------------------------------------------------------------------------

    async def run(
        self,
        code: str,
        *,
        timeout: float | None = 60.0,
        on_output: Callable[[Output], None] | None = None,
    ) -> Answer:
        async with self._turn:
            if self._death is not None:
                return replace(self._death, reason=f"{_GONE} {self._death.reason}")
            if self._channels is None:
                raise self._no_kernel()
            began = time.monotonic()
            if self._channels.broken.is_set():  # by what was said since the last run
                ended = self._provisioner.until_ended()
                await _first(timeout, answered=_answered(self._channels), ended=ended)
            hearing = self._channels.hear(on_output)
            try:
                answer = await self._execute(hearing, self._channels, code, timeout)
            except asyncio.CancelledError:
                await to_the_end(asyncio.ensure_future(self._stop(hearing)))
                raise
            finally:
                if self._channels is not None:
                    self._channels.ignore()
            seconds = time.monotonic() - began
            return replace(answer, outputs=merged(hearing.outputs), seconds=seconds)

    async def _execute(
        self, hearing: Hearing, channels: Channels, code: str, timeout: float | None
    ) -> Answer:
        hearing.request = channels.client.execute(code, allow_stdin=False, stop_on_error=False)
        what = await _first(
            timeout,
            failed=hearing.failed.wait(),
            flooded=hearing.flooded.wait(),
            heard=hearing.complete(_IDLE_SECONDS),
            ended=self._provisioner.until_ended(),
            broken=channels.broken.wait(),
        )
        if what == "broken":  # because it ended, or because a message was too large
            what = await _first(_END_SECONDS, ended=self._provisioner.until_ended()) or what
        if what == "heard":
            return _as_replied(hearing)
        if what == "ended":
            return await self._notice_death()
        goes_on = await self._stop(hearing)
        if what == "broken" and self._death is not None and self._death.cause != "requested":
            return self._death
        if hearing.failure is not None:
            raise hearing.failure
        if what in ("flooded", "broken"):
            return TooMuchOutput(limit=self._limit, killed=not goes_on)
        return TimedOut(timeout=timeout or 0.0, killed=not goes_on)

    async def _stop(self, hearing: Hearing) -> bool:
        """Interrupt it; when that does not help, kill. Returns whether the kernel goes on."""
        if hearing.is_complete:
            return True
        what = ""
        if self._manager is not None and self._channels is not None:
            with contextlib.suppress(EngineError):
                await self._manager.interrupt_kernel()
                what = await _first(
                    self._interrupt_timeout,
                    heard=_at_rest(hearing, self._channels),
                    ended=self._provisioner.until_ended(),
                )
        if what == "heard":
            return True
        if what == "ended":
            await self._notice_death()
            return False
        self._death = Died(
            reason=f"The kernel was killed: it went on for {self._interrupt_timeout:g} s after it "
            "had been interrupted.",
            cause="requested",
            exit_code=KILLED,
        )
        await self._remove()
        return False

    async def _notice_death(self) -> Died:
        provisioner = self._provisioner
        await provisioner.until_ended()
        await provisioner.poll()  # which asks the engine for its last words
        status = provisioner.exit_status or ExitStatus(code=1, removed=True)
        reason = provisioner.reason or explain_exit(status)
        self._death = Died(reason=reason, cause=cause_of(status), exit_code=status.code)
        await self._remove()
        return self._death

    async def run_notebook(self, path: str | Path, *, timeout: float | None = 60.0) -> None:
        await run_cells(self.run, Path(path), timeout)

    # -- files ------------------------------------------------------------------------------

    async def put(self, path: str, content: bytes | str | Path, *, timeout: float = 60.0) -> None:
        if isinstance(content, str):
            content = content.encode()
        await files.put(self._facts, path, content, timeout)

    async def get(self, path: str, *, limit: int = FILE_LIMIT, timeout: float = 60.0) -> bytes:
        return await files.get(self._facts, path, limit, timeout)


def _as_replied(hearing: Hearing) -> Answer:
    reply = hearing.reply
    status = readable(reply.get("status"))
    if status == "ok":
        return Finished(result=hearing.result)
    traceback = reply.get("traceback")
    return Raised(
        ename=readable(reply.get("ename")) or status,
        evalue=readable(reply.get("evalue")),
        traceback=tuple(map(readable, traceback)) if isinstance(traceback, list) else (),
    )


async def _answered(channels: Channels) -> None:
    """Until the kernel has answered, and is heard when it says something: then all that it said
    before has come, too."""
    while True:
        if channels.broken.is_set():
            await channels.reconnect()
        hearing = channels.hear()
        hearing.request = channels.client.kernel_info()
        # Again: this one may go unheard.
        if await _first(_ASK_SECONDS, heard=hearing.complete()):
            return


async def _at_rest(hearing: Hearing, channels: Channels) -> None:
    """Until the execution has ended, and all that came of it has been heard or was lost."""
    if not channels.broken.is_set():
        await hearing.complete(_ASK_SECONDS)
    if not hearing.idle.is_set():  # it was lost with a connection, or among too many messages
        await _answered(channels)


async def _first(timeout: float | None, **waits: Coroutine[Any, Any, object]) -> str:
    """The name of the first that is done, of several the one that is named first; empty when none
    is within `timeout` seconds. The others are given up."""
    tasks = {name: asyncio.ensure_future(wait) for name, wait in waits.items()}
    try:
        await asyncio.wait(tasks.values(), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return next((name for name, task in tasks.items() if task.done()), "")
    finally:
        for task in tasks.values():
            task.cancel()
