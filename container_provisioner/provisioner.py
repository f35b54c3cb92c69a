"""The kernel provisioner: what `jupyter_client` asks, answered by a container.

See "Kernel provisioning" in jupyter_client's documentation for the contract of each method.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

from . import workspace
from .adoption import AdoptableKernel, check_identity
from .command import container_command
from .config import ContainerSettings
from .connection import Endpoint, from_json, to_json
from .definition import LaunchRequest
from .engine.calls import Engine
from .engine.find import open_engine
from .environment import NEVER, choose_environment
from .errors import (
    ConfigurationError,
    ContainerProvisionerError,
    EngineError,
    EngineUnavailable,
)
from .exits import ExitStatus
from .handle import KernelContainer
from .launcher import Launched, launch
from .spec import Mount
from .store import KernelDirectory, RecordStore
from .transports import transport_named


class ContainerProvisioner(ContainerSettings, LocalProvisioner):  # type: ignore[metaclass]
    """Runs a kernel in a container of its own.

    Named in a kernelspec's ``metadata.kernel_provisioner`` as ``container-provisioner``, or for
    every kernelspec by ``JUPYTER_DEFAULT_PROVISIONER_NAME``. The traits are the settings.
    """

    reason = Unicode(help="Why the kernel ended, in one line; empty while nothing is known.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection_info = KernelConnectionInfo()  # the base class has one for all instances
        self._container: KernelContainer | None = None
        self._directory: KernelDirectory | None = None  # once it is ours to remove
        self._mounts: tuple[Mount, ...] = ()
        self._records = RecordStore()
        self._has_process = False
        self._end_expected = False  # somebody asked for the shutdown or restart under way
        self._died = False  # the last run ended by itself, and nobody has started another
        self._launch_failure: ExitStatus | None = None
        self._launching = asyncio.Lock()
        self._closed = False  # by a cleanup, for good unless it is launched again
        self._giving_up: asyncio.Task[None] | None = None
        self._started_in = 0.0

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
        if status is None:
            return None
        await self._notice_end(status)
        return status.code

    async def wait(self) -> int | None:
        """The exit code, once the container has ended. The caller bounds the time."""
        if not self._has_process:
            return 0
        status = self._launch_failure
        if status is None and self._container is not None:
            status = await self._container.wait()
            await self._notice_end(status)
        self._has_process = False
        return status.code if status is not None else 0

    @property
    def _status(self) -> ExitStatus | None:
        if self._launch_failure is not None:
            return self._launch_failure
        return self._container.status if self._container is not None else None

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
        if self._has_process and self._container is not None:
            try:
                await self._container.signal(signum)
            except EngineUnavailable as exc:
                # A shutdown begins with a signal, and has to go on to `cleanup`.
                if not getattr(self.parent, "shutting_down", False):
                    raise
                self.log.warning("Kernel %s: %s", self.kernel_id, exc)

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL. Removes nothing: `restart` is not to be relied on here (jupyter_client#1061)."""
        await self._end(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """SIGTERM. Removes nothing, as `kill`."""
        await self._end(signal.SIGTERM)

    async def _end(self, signum: int) -> None:
        if self._has_process and self._container is not None:
            try:
                await self._container.end(signum)
            except EngineUnavailable as exc:  # the manager looks whether it has ended
                self.log.warning("Kernel %s: %s", self.kernel_id, exc)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """The kernel was sent a shutdown message: its end will be no surprise."""
        if not restart and (status := self._status) is not None:
            await self._notice_end(status)  # it died, and nobody has polled since
        self._end_expected = True

    # -- launch -----------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose the transport, write the manager's connection file, select the environment.

        Makes no engine call and nothing that would have to be undone.
        """
        manager = self.parent
        if manager is None:
            raise ConfigurationError(
                "A container provisioner needs a kernel manager as its parent."
            )
        try:
            settings = self.settings()
            sockets = KernelDirectory.of(self.kernel_id).sockets
            transport = transport_named(settings.transport, network=settings.network)
            endpoint = transport.host_endpoint(sockets)
            # Ours before LocalProvisioner's: it refuses an address that is not local, such as the
            # one a first launch left in the manager, and would pick ports that others can take.
            manager.cache_ports = False
            self._tell_manager(endpoint)
            added = (kwargs.get("env") or os.environ).keys() - os.environ.keys()
            kwargs = await super().pre_launch(**kwargs)
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

        Understands ``cwd``, ``env`` and ``independent``. ``stdout`` and ``stderr`` are refused
        with a warning: what the kernel process writes goes to the engine's log.

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
        try:
            await self._launch(cmd, kwargs, predecessor)
        except BaseException as exc:
            if self._directory is not None:
                self._records.remove(self.kernel_id)  # of an earlier run
            elif self.parent is not None and self.parent.transport == "ipc":
                # Not to remove the sockets that it was told of: they may be another process's.
                # (No longer a path than it was; a shutdown connects there, and nobody listens.)
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
            self._show("")
        self._has_process = True
        self._end_expected = False
        return self.connection_info

    async def _launch(
        self, cmd: list[str], kwargs: dict[str, Any], predecessor: KernelContainer | None
    ) -> None:
        settings = self.settings()
        manager, spec = cast(Any, self.parent), self.kernel_spec  # pre_launch has seen it
        request = LaunchRequest(
            kernel_id=self.kernel_id,
            kernel_name=manager.kernel_name,
            command=container_command(
                cmd,
                template=spec.argv,
                connection_file=manager.connection_file,
                resource_dir=spec.resource_dir,
                in_image=bool(settings.image),
                interpreter=sys.executable,
            ),
            environment=kwargs["env"],
            folder=str(kwargs.get("cwd") or Path.cwd()),
            resource_dir=spec.resource_dir,
            connection_info=cast(dict[str, Any], self.connection_info),
            settings=settings,
            transport=transport_named(settings.transport, network=settings.network),
            independent=bool(kwargs.get("independent")),
        )
        engine = await self._open_engine(settings.engine, settings.engine_url)
        launched = await launch(request, engine, self.log, predecessor)
        self._adopt(launched)
        self._records.write(self.kernel_id, await self.get_provisioner_info())

    def _adopt(self, launched: Launched) -> None:
        identity = launched.container.identity
        self._container, self._directory = launched.container, launched.directory
        self._started_in, self._mounts = launched.started_in, launched.mounts
        self.cwd = launched.workspace.cwd
        self.ip = launched.endpoint.ip
        self.connection_info = cast(
            KernelConnectionInfo, {**self.connection_info, **launched.endpoint.as_fields()}
        )
        # The manager loads what we return only when its file says something else. After a restart
        # at the same address the file is right, and the manager has what `pre_launch` put there.
        self._tell_manager(launched.endpoint)
        self.log.info(
            "Kernel %s started in container %s (image %s, %s) in %.2f s",
            self.kernel_id,
            identity.container_id[:12],
            identity.image,
            launched.endpoint.transport,
            launched.started_in,
        )

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

    async def _open_engine(self, choice: str, url: str) -> Engine:
        return await open_engine(choice, url, log=self.log)

    async def cleanup(self, restart: bool = False) -> None:
        """Remove container, directory and record, unless a restart follows. Any time, any number.

        An engine that does not answer is reported and does not keep the manager from closing.
        """
        await super().cleanup(restart=restart)
        if restart:
            return
        self._closed = True
        async with self._launching:  # what a restart under way makes goes too
            await self._remove_all()

    async def _remove_all(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            try:
                await container.remove()
            except EngineError as exc:
                self.log.warning("Kernel %s: its container is left behind: %s", self.kernel_id, exc)
                container.unfollow()
        # Without a launch of ours they are another process's.
        if self._directory is not None:
            self._directory.remove()
            self._records.remove(self.kernel_id)
            self._directory = None
        self._has_process = self._died = False

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
        return workspace.resolve(path, cwd=str(self.cwd or "/"), mounts=self._mounts)

    # -- persistence ------------------------------------------------------------------------

    async def get_provisioner_info(self) -> dict[str, Any]:
        """JSON-safe and complete: another process that loads it controls the kernel."""
        info = await super().get_provisioner_info()
        info["connection_info"] = to_json(info["connection_info"])
        if self._container is not None and self._directory is not None:
            info["container"] = AdoptableKernel(
                engine_url=self._container.engine.url,
                identity=self._container.identity,
                directory=self._directory,
                cwd=str(self.cwd),
                mounts=self._mounts,
            ).as_json()
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
        self._directory, self._mounts, self.cwd = kernel.directory, kernel.mounts, kernel.cwd
        await self._container.follow()
        self._has_process = True
