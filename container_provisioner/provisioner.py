"""The kernel provisioner: what `jupyter_client` asks, answered by a container.

See "Kernel provisioning" in jupyter_client's documentation for the contract of each method.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo

from .adoptable import AdoptableKernel, RunningKernel
from .adoption import adopt, check_identity, find_running
from .config import ContainerSettings
from .connection import Endpoint, from_json, to_json
from .container_process import ContainerProcess
from .definition import LaunchRequest
from .engine.calls import Engine
from .environment import NEVER, choose_environment
from .errors import (
    ConfigurationError,
    ContainerProvisionerError,
    EngineError,
    KernelNotAdoptable,
    KernelRuns,
)
from .exits import ExitStatus
from .handle import KernelContainer
from .launch_request import connect_far, host_endpoint, launch_request
from .launcher import launch
from .ownership import Ownership
from .policy import Settings
from .spared_file import SparedFile
from .stages import Reporter
from .turns import turn

# The provisioner that controls a kernel in this process, by kernel id.
_in_control: weakref.WeakValueDictionary[str, ContainerProvisioner] = weakref.WeakValueDictionary()


class ContainerProvisioner(ContainerSettings, ContainerProcess):  # type: ignore[metaclass]
    """Runs a kernel in a container of its own.

    Named in a kernelspec's ``metadata.kernel_provisioner`` as ``container-provisioner``, or for
    every kernelspec by ``JUPYTER_DEFAULT_PROVISIONER_NAME``. The traits are the settings.
    """

    observers: list[Callable[[ContainerProvisioner], None]] = []
    """Called in the launching event loop after each launch, restart and adoption."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection_info = KernelConnectionInfo()  # the base class has one for all instances
        self.kernel_info: dict[str, Any] | None = None  # of an adopted or a warm kernel
        self.was_busy = False  # when it was adopted
        self._notice = ""  # what there is to know of a kernel that was adopted
        self._started_at = ""
        self.launched_as: tuple[LaunchRequest, Engine] | None = None
        self._file = ""  # the connection file that clients know, when it is not the manager's
        self._spared: SparedFile | None = None  # while it is not known whose the kernel is
        self._ownership = Ownership(kernel_id=self.kernel_id, log=self.log)
        self._launching = asyncio.Lock()
        self._closed = False  # by a cleanup, for good unless it is launched again
        self._giving_up: asyncio.Task[None] | None = None

    # -- launch -----------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose the transport, write the manager's connection file, select the environment.

        Asks the engine nothing once it is known, and makes nothing that would have to be undone.
        """
        manager = self.parent
        if manager is None:
            raise ConfigurationError(
                "A container provisioner needs a kernel manager as its parent."
            )
        await turn()
        try:
            settings = await self._settings()
            endpoint = host_endpoint(self.kernel_id, settings)
            # Ours before LocalProvisioner's: it refuses an address that is not local, such as the
            # one a first launch left in the manager, and would pick ports that others can take.
            manager.cache_ports = False
            self._tell_manager(endpoint)
            if self.facts is None and self._spared is None:
                self._spared = SparedFile(manager)
            added = (kwargs.get("env") or os.environ).keys() - os.environ.keys()
            kwargs = await super().pre_launch(**{**kwargs, **connect_far(manager, settings)})
            manager._launch_args.pop("adopt_only", None)  # not for a restart later
            kwargs["env"] = choose_environment(
                kwargs["env"],
                kernelspec=self.kernel_spec.env,
                extra=settings.env,
                passthrough=settings.env_passthrough,
            )
        except ContainerProvisionerError as exc:
            raise exc.about(self.kernel_id) from exc.__cause__
        if withheld := added - kwargs["env"].keys() - set(NEVER):
            self.log.warning(
                "Kernel %s: these variables were given at its start and do not reach it: %s. "
                "Name them in env_passthrough.",
                self.kernel_id,
                ", ".join(sorted(withheld)),
            )
        self.log.debug(
            "Environment for kernel %s: %s", self.kernel_id, ", ".join(sorted(kwargs["env"]))
        )
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the container and wait until the kernel listens; returns the connection info.

        A running container of this kernel, whose owner has died, is adopted instead; with
        ``adopt_only=True`` nothing else is done.

        Understands ``cwd``, ``env`` and ``independent`` (as ``on_server_exit = "keep"``).
        ``stdout`` and ``stderr`` are refused with a warning: what the kernel process writes goes
        to the engine's log.

        Raises `KernelDied`, `StartTimeout`, `EngineError` and `ConfigurationError`; nothing is
        left then. When a kernel that died is restarted, a failure is the next death instead, so
        that the restarter counts it and gives up in good order.
        """
        self._closed = False
        if self._giving_up is not None and not self._giving_up.done():
            await asyncio.wait([self._giving_up])
        is_second = self._launching.locked()
        async with self._launching:
            if is_second and self._container is not None and self._container.status is None:
                # A restart during a restart, which managers let through: it gets the new kernel.
                return self.connection_info
            return await self._launch_kernel(cmd, kwargs)

    async def _launch_kernel(self, cmd: list[str], kwargs: dict[str, Any]) -> KernelConnectionInfo:
        restarting_dead, self._died = self._died, False
        self._launch_failure = None
        for name in ("stdout", "stderr"):
            if kwargs.get(name) is not None:
                words = f"{name}= is not supported; the engine keeps the kernel's output"
                self.log.warning("Kernel %s: %s ('docker logs').", self.kernel_id, words)
        predecessor, self._container = self._container, None
        if self._making_way is not None:
            predecessor = None
        self._notice = ""
        reporter = Reporter(self.kernel_id, self.log, self.parent)
        try:
            await self._launch(cmd, kwargs, predecessor, reporter)
        except BaseException as exc:
            reporter.failed(exc)
            self._settle_file(taken=False)
            if self.facts is not None:
                self._ownership.forget()  # an earlier run's record
            elif self.parent is not None and self.parent.transport == "ipc":
                # The manager would remove the sockets that it was told of, and they may be another
                # process's: it is told of some that nobody has, by a path that is not longer.
                self.parent.ip = str(Path(self.parent.ip).with_name("-"))
            if not isinstance(exc, ContainerProvisionerError):
                raise
            if not restarting_dead or self._closed:
                self._show(str(exc))  # whoever gets the exception logs it
                raise exc.about(self.kernel_id) from exc.__cause__
            self._tell(str(exc))
            self._died = True
            self._launch_failure = ExitStatus(code=1)
        if not restarting_dead:
            self._show(self._notice)
        self._has_process = True
        self._end_expected = False
        self._made_way, self._making_way = self._making_way, None
        _in_control[self.kernel_id] = self
        for observer in self.observers:
            observer(self)
        return self.connection_info

    async def _launch(
        self,
        cmd: list[str],
        kwargs: dict[str, Any],
        predecessor: KernelContainer | None,
        reporter: Reporter,
    ) -> None:
        engine = await self._open_engine(self.engine, self.engine_url)
        settings = self.settings(engine.url, engine.own)
        guarded = asyncio.ensure_future(self._ownership.guard(engine.url))
        try:
            if self._making_way is not None:
                await self._making_way.name_is_free()
            adopt_only = kwargs.pop("adopt_only", False)
            is_first = predecessor is None and self._making_way is None
            if adopt_only or is_first:
                await self._ownership.settle_predecessor()  # what was not to be kept is gone then
            if adopt_only or (is_first and await self._runs_already(engine)):
                await self._adopt(engine, reporter)
                return
            try:
                request = self._request(cmd, kwargs, settings)
                self.launched_as = request, engine
                running = await launch(
                    request, engine, self.log, reporter, predecessor, lambda: not self._closed
                )
            except KernelRuns:  # and its record is lost
                await self._adopt(engine, reporter)
            else:
                await self._take(running, reporter)
        finally:
            await guarded

    async def _runs_already(self, engine: Engine) -> bool:
        # Asks the engine only about a kernel that was here before: it costs a start nothing.
        return (
            self._ownership.is_recorded and await find_running(engine, self.kernel_id) is not None
        )

    def _request(self, cmd: list[str], kwargs: dict[str, Any], settings: Settings) -> LaunchRequest:
        return launch_request(
            self.parent,
            self.kernel_spec,
            cmd,
            kwargs,
            settings,
            kernel_id=self.kernel_id,
            connection_info=cast(dict[str, Any], self.connection_info),
            known_folder=self.facts.folder if self.facts is not None else "",
        )

    async def template(self, cmd: list[str], **kwargs: Any) -> tuple[LaunchRequest, Engine]:
        """What `launch_kernel` would do, for a warm pool to prepare. Undoes `pre_launch`."""
        engine = await self._open_engine(self.engine, self.engine_url)
        settings = self.settings(engine.url, engine.own)
        request = self._request(cmd, kwargs, settings)
        self._settle_file(taken=False)
        return request, engine

    async def _adopt(self, engine: Engine, reporter: Reporter) -> None:
        if self.kernel_id in _in_control:
            raise KernelNotAdoptable(
                "A kernel with this id runs already, and another manager of this process has it."
            )
        adopted = await adopt(self.kernel_id, engine, self._ownership.records, self.log)
        self.was_busy = adopted.is_busy
        self.connection_info = cast(KernelConnectionInfo, adopted.connection_info)
        reporter.know(start="adopted")
        adopted.kernel.container.report_to(reporter)
        await self._take(adopted.kernel, reporter)
        identity = adopted.kernel.container.identity
        self.log.info(
            "Kernel %s adopted in container %s (image %s, %s). %s",
            self.kernel_id,
            identity.container_id[:12],
            identity.image,
            adopted.kernel.endpoint.transport,
            adopted.notice,
        )
        self._notice = adopted.notice

    async def _take(self, running: RunningKernel, reporter: Reporter) -> None:
        self._container, self.facts = running.container, running.facts
        self._started_at, self._started_in = running.started_at, running.started_in
        self.kernel_info = dict(running.kernel_info) if running.kernel_info is not None else None
        self.cwd, self.ip = running.facts.cwd, running.endpoint.ip
        self._endpoint = running.endpoint
        self.connection_info = cast(
            KernelConnectionInfo, {**self.connection_info, **running.endpoint.as_fields()}
        )
        # The manager loads what we return only when its file says something else. After a restart
        # at the same address the file is right, and the manager has what `pre_launch` put there.
        self._tell_manager(running.endpoint)
        self._settle_file(taken=True)
        await self._ownership.record(await self.get_provisioner_info(), keep=self.is_kept)
        identity = running.container.identity
        reporter.ready(image=identity.image, container_id=identity.container_id)

    def _settle_file(self, *, taken: bool) -> None:
        spared, self._spared = self._spared, None
        if spared is not None:
            spared.settle(taken=taken)

    def _tell_manager(self, endpoint: Endpoint) -> None:
        for name, value in endpoint.as_fields().items():
            setattr(self.parent, name, value)

    async def post_launch(self, **kwargs: Any) -> None:
        """Be told when the restarter gives up: no manager shuts such a kernel down."""
        manager = cast(Any, self.parent)
        manager.remove_restart_callback(self._give_up, "dead")  # each launch comes here
        manager.add_restart_callback(self._give_up, "dead")
        if self._closed:
            manager.stop_restarter()  # or it would start again what is about to be removed

    def _give_up(self) -> None:
        self._giving_up = asyncio.ensure_future(self.cleanup(restart=False))

    async def _settings(self) -> Settings:
        try:
            engine = await self._open_engine(self.engine, self.engine_url)
        except EngineError:
            if self.facts is None:
                raise
            return self.settings(self.facts.engine_url)  # the launch says what is wrong
        return self.settings(engine.url, engine.own)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """The kernel was sent a shutdown message: its end will be no surprise."""
        await super().shutdown_requested(restart)
        if restart and self.restart_mode == "recreate":
            self._let_make_way()

    async def cleanup(self, restart: bool = False) -> None:
        """Remove container, directory and record, unless a restart follows. Any time, any number.

        An engine that does not answer is reported and does not keep the manager from closing.
        """
        await super().cleanup(restart=restart)
        await self._end_of_run()
        if restart:
            self._note("restarting")
            return
        self._closed = True
        async with self._launching:  # what a restart under way makes goes too, and at once
            facts = self.facts
            await self._remove_all()
            for old in filter(None, (self._making_way, self._made_way)):
                await old.done()
            self._making_way = self._made_way = None
            await self._leave_network(facts)

    async def detach(self) -> None:
        """Let go of a kept kernel: it goes on, and another process may adopt it."""
        if self.parent is not None:
            self.parent.stop_restarter()
        if self._container is not None and self.facts is not None:
            await self._ownership.release(await self.get_provisioner_info())
            self._container.unfollow()
        self.facts = None
        self._container, self._has_process, self._closed = None, False, True
        _in_control.pop(self.kernel_id, None)

    async def _remove_all(self) -> None:
        self._note("ending")
        container, self._container = self._container, None
        if container is not None:
            try:
                await container.remove()
            except EngineError as exc:
                self.log.warning(
                    "Kernel %s: its container is left to the guard: %s", self.kernel_id, exc
                )
                container.unfollow()
                self.facts = None  # its record and directory say what is to be done
        # Without a launch of ours they are another process's.
        if self.facts is not None:
            self._ownership.forget()
            self.facts.directory.remove()
            self.facts = None
        if _in_control.get(self.kernel_id) is self:
            del _in_control[self.kernel_id]
        self._has_process = self._died = False

    # -- persistence ------------------------------------------------------------------------

    async def get_provisioner_info(self) -> dict[str, Any]:
        """JSON-safe and complete: another process that loads it controls the kernel."""
        info = await super().get_provisioner_info()
        info["connection_info"] = to_json(cast(dict[str, Any], self.connection_info))
        if self.facts is not None:
            info |= {
                "connection_file": self._file or str(getattr(self.parent, "connection_file", "")),
                "container": self.facts.as_json(),
                "started_at": self._started_at,
            }
        return info

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Take over a kernel that another process launched.

        Raises `KernelNotAdoptable` when the container that is found is not the one described;
        nothing is changed then. A container that is gone loads as a kernel that has ended.
        """
        kernel = AdoptableKernel.from_json(provisioner_info)
        connection_info = from_json(provisioner_info.get("connection_info"))
        engine = await self._open_engine("auto", kernel.engine_url)
        await check_identity(engine, kernel.identity)
        local = {"pid": None, "pgid": None, "ip": None}  # what LocalProvisioner looks for
        await super().load_provisioner_info({**local, **provisioner_info})
        self.connection_info = cast(KernelConnectionInfo, connection_info)
        self._container = KernelContainer(engine=engine, identity=kernel.identity, log=self.log)
        self.facts, self.cwd = kernel, kernel.cwd
        self._started_at = str(provisioner_info.get("started_at", ""))
        self._file = str(provisioner_info.get("connection_file", ""))
        await self._container.follow()
        if self.is_kept:
            await self._ownership.succeed(engine.url)
        self._has_process = True
