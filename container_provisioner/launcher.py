"""From a request to a kernel that listens, in steps that each know how to be undone.

Reserve, write, create, start, resolve, wait: whatever goes wrong in between, a cancelled caller
included, nothing of it is left. The removal of our container is registered before it is created;
removing nothing is quiet.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from . import labels, workspace
from .adoptable import AdoptableKernel, RunningKernel
from .command import SOCKETS_DIR
from .connection import Endpoint
from .definition import LaunchRequest, container_spec, write_files
from .engine.base import ContainerInfo
from .engine.calls import Engine, to_the_end
from .errors import CommandMissing, ConfigurationError, EngineError, KernelDied, StartTimeout
from .handle import ContainerIdentity, KernelContainer, remove_launch
from .host_environment import home_archive
from .naming import clear_name, create_under_name
from .policy import KernelUser, choose_user
from .root import RootFilesystem, prepare_root
from .spec import ContainerSpec
from .store import KernelDirectory, own_lease, place_id, runtime_folder
from .transports.base import LOOK_SECONDS
from .workspace import Workspace

IPC_HINT = (
    " A kernel that cannot speak ipc (many that are not Python) needs transport='tcp' and "
    "network='bridge'."
)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A request after everything was looked up that can be without leaving a trace."""

    request: LaunchRequest
    root: RootFilesystem
    user: KernelUser
    workspace: Workspace
    directory: KernelDirectory
    spec: ContainerSpec  # name and labels come with the launch

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
            on_server_exit=settings.on_server_exit,
            max_idle=settings.max_idle,
            server=request.server,
            folder=request.folder,
            session_name=request.environment.get("JPY_SESSION_NAME", ""),
            read_only=settings.read_only,
        )

    def write_files(self) -> None:
        write_files(self.request, directory=self.directory, user=self.user, root=self.root)


async def launch(
    request: LaunchRequest,
    engine: Engine,
    log: logging.Logger,
    predecessor: KernelContainer | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> RunningKernel:
    """Run the kernel and wait until it listens, or until it `is_wanted` no more.

    `predecessor` is the ended container of a restart: it is started again when it was made to an
    equal definition and ``restart_mode`` is ``in-place``, else removed. Raises the errors of this
    package; whatever was made is removed again, the predecessor too.
    """
    began = time.monotonic()
    async with AsyncExitStack() as undo:
        if predecessor is not None:
            undo.callback(KernelDirectory.of(request.kernel_id).remove)
            undo.push_async_callback(_quiet_removal, predecessor, log)
        prepared = await _prepare(request, engine, log)
        container = None
        if predecessor is not None:
            container = await _start_again(prepared, predecessor, log)
        if container is None:
            container = await _create(prepared, engine, log, undo)
        undo.callback(container.unfollow)
        endpoint, info = await _run(prepared, container, is_wanted)
        prepared.directory.close_sockets()
        prepared.directory.mark(own_lease().id, "running")
        undo.pop_all()
    started_in = time.monotonic() - began
    log.info(
        "Kernel %s started in container %s (image %s, %s) in %.2f s",
        request.kernel_id,
        container.identity.container_id[:12],
        container.identity.image,
        endpoint.transport,
        started_in,
    )
    return RunningKernel(
        container=container,
        facts=prepared.facts(engine, container.identity),
        endpoint=endpoint,
        started_at=info.started_at,
        started_in=started_in,
    )


async def _prepare(request: LaunchRequest, engine: Engine, log: logging.Logger) -> _Prepared:
    settings = request.settings
    place = workspace.choose_workspace(request.folder, settings, runtime=runtime_folder())
    workspace.check_mounts(
        (*settings.mounts, *([place.mount] if place.mount else [])),
        engine_socket=engine.url.removeprefix("unix://"),
    )
    root = await prepare_root(engine, settings, request.command.argv, log)
    user = choose_user(
        settings,
        caller=KernelUser(os.getuid(), os.getgid()),
        image_user=root.user,
        workspace_owner=workspace.owner(place.mount.source) if place.mount else None,
    )
    access = workspace.check_access(place.mount, user) if place.mount else ""
    for notice in filter(None, (place.notice, access)):
        log.warning("Kernel %s: %s", request.kernel_id, notice)
    directory = KernelDirectory.of(request.kernel_id)
    return _Prepared(
        request=request,
        root=root,
        user=user,
        workspace=place,
        directory=directory,
        spec=container_spec(request, root=root, user=user, place=place, directory=directory),
    )


async def _start_again(
    prepared: _Prepared, predecessor: KernelContainer, log: logging.Logger
) -> KernelContainer | None:
    """The predecessor, ready to be started; None when it has to be replaced, and is removed."""
    settings = prepared.request.settings
    same = (
        predecessor.identity.spec_digest == prepared.spec.digest()
        # A label, which cannot be changed.
        and predecessor.identity.on_server_exit == settings.on_server_exit
    )
    in_place = settings.restart_mode == "in-place"
    has_ended = predecessor.status is not None and not predecessor.status.removed
    if in_place and same and has_ended:
        prepared.directory.mark(own_lease().id, "restarting")
        prepared.directory.open_sockets(prepared.user)
        prepared.write_files()
        return predecessor
    if in_place and not same:
        log.info(
            "Kernel %s: its settings have changed; it restarts in a new container.",
            prepared.request.kernel_id,
        )
    await predecessor.remove()
    return None


async def _create(
    prepared: _Prepared, engine: Engine, log: logging.Logger, undo: AsyncExitStack
) -> KernelContainer:
    request, settings = prepared.request, prepared.request.settings
    name = labels.container_name(request.kernel_id)
    await clear_name(engine, name, request.kernel_id)
    undo.callback(prepared.directory.remove)
    owner = own_lease()
    prepared.directory.create(prepared.user, owner.id)
    prepared.write_files()
    launch_id = uuid.uuid4().hex
    identity = ContainerIdentity(
        kernel_id=request.kernel_id,
        launch_id=launch_id,
        container_id="",  # the engine's to give
        container_name=name,
        image=prepared.root.title,
        argv=prepared.root.argv,
        spec_digest=prepared.spec.digest(),
        memory_limit=settings.limits.memory,
        on_server_exit=settings.on_server_exit,
    )
    spec = replace(
        prepared.spec,
        name=name,
        labels={
            **labels.kernel_labels(
                kernel_id=request.kernel_id,
                launch_id=launch_id,
                kernel_name=request.kernel_name,
                uid=os.getuid(),
                owner=owner.id,
                place=place_id(),
                on_server_exit=settings.on_server_exit,
            ),
            labels.SPEC: prepared.spec.digest(),
            labels.RECORD: prepared.facts(engine, identity).as_label(),
        },
    )
    undo.push_async_callback(_quiet_undo, engine, name, launch_id, log)
    container_id = await create_under_name(engine, spec, request.kernel_id)
    if not settings.read_only:
        await engine.upload(container_id, "/", home_archive(prepared.user))
    return KernelContainer(
        engine=engine, log=log, identity=replace(identity, container_id=container_id)
    )


async def _run(
    prepared: _Prepared, container: KernelContainer, is_wanted: Callable[[], bool]
) -> tuple[Endpoint, ContainerInfo]:
    """Start the container and wait until its kernel listens on all channels."""
    request = prepared.request
    deadline = time.monotonic() + request.settings.start_timeout
    try:
        await container.engine.start(container.identity.container_id)
    except CommandMissing as exc:
        wrapped = exc.command == "/bin/sh" and prepared.spec.argv != prepared.root.argv
        note = (
            "It is needed to hand over the kernelspec's env, KERNEL_* and env_passthrough without "
            "showing them in 'docker inspect'. "
        )
        error = CommandMissing(exc.command, prepared.root.title)
        raise ConfigurationError(f"{error} {note}") if wrapped else error from exc
    info = await container.follow()
    if info is None or container.status is not None:
        endpoint = None
    else:
        sockets = prepared.directory.sockets
        endpoint = request.transport.resolve(sockets, info)
    while is_wanted():
        if endpoint and info and await request.transport.listening(endpoint):
            return endpoint, info
        if container.status is not None:
            explanation = await container.explain(container.status, starting=True)
            hint = IPC_HINT if SOCKETS_DIR in explanation else ""  # it fails to make sense of it
            raise KernelDied(f"The kernel died while it started: {explanation}{hint}")
        if time.monotonic() > deadline:
            raise StartTimeout(await _explain_timeout(prepared, container))
        await asyncio.sleep(LOOK_SECONDS)
    raise KernelDied("The kernel was shut down while it started.")


async def _explain_timeout(prepared: _Prepared, container: KernelContainer) -> str:
    settings = prepared.request.settings
    tail = await container.last_words()
    hint = IPC_HINT if settings.transport == "ipc" else ""
    return (
        f"The kernel opened no channels within {settings.start_timeout:g} s (start_timeout) and "
        f"was removed. Container {container.identity.container_id[:12]}, image "
        f"{container.identity.image}.{hint}" + (f" Last output: {tail}" if tail else "")
    )


async def _quiet_undo(engine: Engine, name: str, launch_id: str, log: logging.Logger) -> None:
    try:
        await to_the_end(asyncio.ensure_future(remove_launch(engine, name, launch_id)))
    except EngineError as exc:
        log.warning("Container %s may be left behind: %s", name, exc)


async def _quiet_removal(container: KernelContainer, log: logging.Logger) -> None:
    try:
        await to_the_end(asyncio.ensure_future(container.remove()))
    except EngineError as exc:
        log.warning("Container %s may be left behind: %s", container.identity.container_name, exc)
