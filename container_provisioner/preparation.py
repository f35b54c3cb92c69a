"""A launch request with everything decided that can be looked up without leaving a trace."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

from .adoptable import AdoptableKernel
from .command import CONNECTION_NAME, ENVIRONMENT_NAME
from .definition import LaunchRequest, container_spec, write_etc_files, write_files
from .engine.base import Progress
from .engine.calls import Engine
from .handle import ContainerIdentity
from .policy import PROFILES, KernelUser, Settings, choose_user
from .root import RootFilesystem, prepare_root
from .spec import ContainerSpec
from .store import KernelDirectory, own_lease, runtime_folder
from .workspace import Workspace, check_access, check_mounts, choose_workspace, owner

_told: weakref.WeakSet[Engine] = weakref.WeakSet()  # where this server is


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a container is to be, and for whom. Nothing has been made yet."""

    request: LaunchRequest
    root: RootFilesystem
    user: KernelUser
    workspace: Workspace
    directory: KernelDirectory
    spec: ContainerSpec  # name and labels come with the container
    notices: tuple[str, ...] = ()  # what will surprise; sentences for the log

    def identity(self, *, name: str, launch_id: str, container_id: str = "") -> ContainerIdentity:
        """Of the container that is made, or claimed, for it."""
        settings = self.request.settings
        return ContainerIdentity(
            kernel_id=self.request.kernel_id,
            launch_id=launch_id,
            container_id=container_id,
            container_name=name,
            image=self.root.title,
            argv=self.root.argv,
            spec_digest=self.spec.digest(),
            memory_limit=settings.limits.memory,
            on_server_exit=settings.on_server_exit,
        )

    def facts(self, engine: Engine, identity: ContainerIdentity) -> AdoptableKernel:
        """What another process has to know to take over."""
        request, settings = self.request, self.request.settings
        return AdoptableKernel(
            engine_url=engine.url,
            identity=identity,
            directory=self.directory,
            cwd=self.workspace.cwd,
            mounts=(
                *([self.workspace.mount] if self.workspace.mount else []),
                *settings.mounts,
            ),
            kernel_name=request.kernel_name,
            transport=settings.transport,
            network=settings.network,
            address=settings.topology.address,
            nodes=settings.topology.nodes,
            on_server_exit=settings.on_server_exit,
            max_idle=settings.max_idle,
            server=request.server,
            folder=request.folder,
            session_name=request.environment.get("JPY_SESSION_NAME", ""),
            read_only=settings.read_only,
        )

    def write_files(self) -> None:
        """Raises `ConfigurationError` for a variable's name that no shell can set."""
        write_files(self.request, directory=self.directory, user=self.user)

    def archive(self) -> bytes:
        """What it reads from its private directory, for an engine that cannot mount that."""
        resources = self.request.resource_dir if self.request.command.uses_resources else ""
        return self.directory.archive(
            self.user, CONNECTION_NAME, ENVIRONMENT_NAME, resources=resources
        )

    def create_directory(self) -> None:
        """The private directory with everything in it. Raises `ConfigurationError` as above."""
        self.directory.create(self.user, own_lease().id)
        write_etc_files(
            self.request.settings, directory=self.directory, user=self.user, root=self.root
        )
        if self.request.command.uses_resources and self.request.settings.topology.own is not None:
            self.directory.take_resources(self.request.resource_dir)
        self.write_files()


async def prepare(
    request: LaunchRequest,
    engine: Engine,
    log: logging.Logger,
    progress: Progress | None = None,
) -> Preparation:
    """Have the image, and decide everything. `progress` is told the steps of a pull.

    Raises `ConfigurationError` and `EngineError`.
    """
    settings = request.settings
    if settings.topology.own is not None and engine not in _told:
        _told.add(engine)
        log.info("%s", settings.topology.describe(settings.transport, settings.network))
    workspace = choose_workspace(request.folder, settings, runtime=runtime_folder())
    check_mounts(
        (*settings.mounts, *([workspace.mount] if workspace.mount else [])),
        engine_socket=engine.url.removeprefix("unix://") if engine.url.startswith("unix:") else "",
        topology=settings.topology,
    )
    root = await prepare_root(engine, settings, request.command.argv, log, progress)
    user = choose_user(
        settings,
        caller=KernelUser(os.getuid(), os.getgid()),
        image_user=root.user,
        workspace_owner=owner(workspace.mount.source) if workspace.mount else None,
    )
    access = check_access(workspace.mount, user) if workspace.mount else ""
    directory = KernelDirectory.of(request.kernel_id)
    return Preparation(
        request=request,
        root=root,
        user=user,
        workspace=workspace,
        directory=directory,
        spec=container_spec(
            request, root=root, user=user, workspace=workspace, directory=directory
        ),
        notices=tuple(filter(None, (workspace.notice, access, *_of_own_container(settings)))),
    )


def _of_own_container(settings: Settings) -> Iterator[str]:
    """What may surprise a user whose server is in a container."""
    topology = settings.topology
    if topology.own is None:
        return
    records = str(runtime_folder())
    if settings.on_server_exit == "keep" and topology.host_path(records) is None:
        yield (
            f"It is to be kept, but its record is in {records}, which is on no mount and goes with "
            f"this server's {topology.own}: another one will not find it. Set JUPYTER_RUNTIME_DIR "
            "to a folder on a volume."
        )
    has_none = PROFILES[settings.profile].network == "none"
    joined = settings.network if topology.joins_network and settings.transport != "ipc" else ""
    if has_none and joined and not topology.own.networks.get(joined):
        yield (
            f"Its messages need a network, and {joined!r} has a way out (profile "
            f"{settings.profile!r} has none). Make that network internal, name another one, or set "
            "JUPYTER_RUNTIME_DIR to a folder on a volume: messages then need none."
        )
