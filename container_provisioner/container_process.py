"""The kernel's process, as `jupyter_client` asks after it: a container that runs or has ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

from . import workspace
from .adoptable import AdoptableKernel
from .connection import Endpoint
from .engine.calls import Engine
from .engine.find import open_engine
from .errors import EngineError, EngineUnavailable
from .exits import ExitStatus
from .handle import KernelContainer
from .internal_network import leave_internal_network
from .making_way import MakingWay
from .policy import INTERNAL
from .store import own_lease
from .store.directory import Phase

ENDING_SECONDS = 1.0


class ContainerProcess(LocalProvisioner):
    """LocalProvisioner's process verbs, for the container that a subclass puts in `_container`."""

    reason = Unicode(help="Why the kernel ended, in one line; empty while nothing is known.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._container: KernelContainer | None = None
        self.facts: AdoptableKernel | None = None  # once there is a kernel that is ours to remove
        self._has_process = False
        self._end_expected = False  # somebody asked for the shutdown or restart under way
        self._died = False  # the last run ended by itself, and nobody has started another
        self._launch_failure: ExitStatus | None = None
        self._started_in = 0.0  # seconds
        self._endpoint: Endpoint | None = None
        self._making_way: MakingWay | None = None  # for its successor, in a restart
        self._made_way: MakingWay | None = None  # in the last one; it may not be removed yet
        self._interrupting: asyncio.Future[None] | None = None  # at the beginning of a shutdown

    async def _open_engine(self, choice: str, url: str) -> Engine:
        return await open_engine(choice, url, log=self.log)

    async def _leave_network(self, facts: AdoptableKernel | None) -> None:
        """With the last kernel that was not to get out goes their network."""
        if facts is not None and facts.network == INTERNAL:
            engine = await self._open_engine("auto", facts.engine_url)
            await leave_internal_network(engine, self.log)

    # -- liveness ---------------------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        """True from launch or `load_provisioner_info` until the container's end was waited for."""
        return self._has_process

    async def poll(self) -> int | None:
        """None while the container runs, or while nobody can tell; else its exit code.

        137 is SIGKILL, which is also what the out-of-memory killer leaves; `reason` tells which.
        A container removed behind our back reports 1. Compare with None: a clean exit is 0.
        Reads the exit watcher; no engine call but one for the log when the kernel has died.
        """
        if not self._has_process:
            return 0
        status = self._status
        if status is None and self._end_expected:
            # Who shuts down looks every 0.1 s. Told at once, it need not wait for its next look.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.until_ended(), ENDING_SECONDS)
            status = self._status
        if status is None:
            return None
        await self._notice_end(status)
        return status.code

    async def wait(self) -> int | None:
        """The exit code, once the container has ended. The caller bounds the time."""
        if not self._has_process:
            return 0
        if self._launch_failure is None and self._container is not None:
            await self.until_ended()
        status = self._status
        if status is not None and self._launch_failure is None:
            await self._notice_end(status)
        self._has_process = False
        return status.code if status is not None else 0

    @property
    def _status(self) -> ExitStatus | None:
        if self._launch_failure is not None:
            return self._launch_failure
        if self._making_way is not None:
            return self._making_way.status
        return self._container.status if self._container is not None else None

    @property
    def exit_status(self) -> ExitStatus | None:
        """How the present run has ended; None while it goes on, or while nobody can tell."""
        return self._status

    async def until_ended(self) -> None:
        """Unlike `wait`, it changes nothing. The caller bounds the time."""
        if self._making_way is not None:
            await self._making_way.wait()
        elif self._container is not None:
            await self._container.wait()

    async def _notice_end(self, status: ExitStatus) -> None:
        """Say once why a kernel ended that nobody asked to end."""
        container = self._container
        asked = self._end_expected or (container is not None and container.end_requested)
        if asked or self._died or container is None:
            return
        self._died = True
        self._tell(f"The kernel died: {await container.explain(status)}")

    def _tell(self, reason: str) -> None:
        """Into the server's log, and to whoever shows jupyter_server's kernel model."""
        self.log.error("Kernel %s: %s", self.kernel_id, reason)
        self._show(reason)

    def _show(self, reason: str) -> None:
        self.reason = reason
        if self.parent is not None and self.parent.has_trait("reason"):
            self.parent.reason = reason

    # -- signals ----------------------------------------------------------------------------

    async def send_signal(self, signum: int) -> None:
        """To the kernel's whole process group. No error when nothing runs there any more."""
        if not self._has_process or self._container is None:
            return
        if not getattr(self.parent, "shutting_down", False):
            await self._container.signal(signum)
            return
        # Every shutdown begins with an interrupt. The message that follows need not wait until
        # the engine has delivered it, and an engine that does not answer must not stop it.
        self._note_end()
        self._interrupting = asyncio.ensure_future(self._signal_quietly(self._container, signum))

    async def _signal_quietly(self, container: KernelContainer, signum: int) -> None:
        try:
            await container.signal(signum)
        except EngineError as exc:
            self.log.warning("Kernel %s: %s", self.kernel_id, exc)

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL. Removes nothing: `restart` is not to be relied on here (jupyter_client#1061)."""
        await self._end(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """SIGTERM. Removes nothing, as `kill`."""
        await self._end(signal.SIGTERM)

    async def _end(self, signum: int) -> None:
        self._note_end()
        if self._has_process and self._container is not None:
            try:
                await self._container.end(signum)
            except EngineUnavailable as exc:  # the manager looks whether it has ended
                self.log.warning("Kernel %s: %s", self.kernel_id, exc)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """The kernel was sent a shutdown message: its end will be no surprise."""
        if (control := getattr(self.parent, "_control_socket", None)) is not None:
            # The manager closes it when the kernel has ended. A message that was not read by then
            # would linger, and a warm kernel is at the same address soon enough to obey it.
            control.linger = 0
        self._note("restarting" if restart else "ending")
        if not restart and (status := self._status) is not None:
            await self._notice_end(status)  # it died, and nobody has polled since
        self._end_expected = True
        if self._container is not None:
            self._container.end_requested = True

    def _let_make_way(self) -> None:
        """A new container will follow: this one need not be gone before."""
        if self._container is not None and self.facts is not None and self._endpoint is not None:
            closed = self.facts.channels().until_closed(self._endpoint)
            self._making_way = MakingWay(self._container, closed)

    async def _end_of_run(self) -> None:
        """The manager has seen it end, or gives up waiting for that."""
        if self._interrupting is not None:
            await asyncio.wait([self._interrupting])
            self._interrupting = None
        if self._making_way is not None:
            self._making_way.begin()

    # -- what a server asks -----------------------------------------------------------------

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """The manager's ``shutdown_wait_time``: a container takes no longer to end."""
        return recommended

    def get_stable_start_time(self, recommended: float = 10.0) -> float:
        """The restarter's own time, and what the launch took, a pull included.

        The restarter counts from the death on. Without the launch, a kernel that takes long to
        start and dies soon after would be restarted for ever.
        """
        return recommended + self._started_in

    def resolve_path(self, path: str) -> str | None:
        """The host's path of a path as the kernel sees it; None for what is not mounted there."""
        mounts = self.facts.mounts if self.facts is not None else ()
        return workspace.resolve(path, cwd=str(self.cwd or "/"), mounts=mounts)

    # -- for the guard ----------------------------------------------------------------------

    @property
    def is_kept(self) -> bool:
        """Whether the kernel is to outlive this process."""
        return self.facts is not None and self.facts.on_server_exit == "keep"

    def _note_end(self) -> None:
        if self.facts is not None and self.facts.directory.marked()[1] == "running":
            self._note("closing")

    def _note(self, phase: Phase) -> None:
        """For the guard, which finishes it should this process die in between."""
        if self.facts is not None and self.is_kept:
            with contextlib.suppress(OSError):
                self.facts.directory.mark(own_lease().id, phase)
