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
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from . import labels, workspace
from .command import (
    CONNECTION_FILE,
    ENVIRONMENT_FILE,
    PRIVATE_DIR,
    RESOURCE_DIR,
    SOCKETS_DIR,
    KernelCommand,
)
from .connection import Endpoint, connection_file
from .engine.base import ContainerInfo
from .engine.calls import Engine
from .environment import HOME, INIT, environment_script, split_environment, with_environment_file
from .errors import (
    CommandMissing,
    ConfigurationError,
    ContainerGone,
    EngineError,
    KernelDied,
    KernelNotAdoptable,
    NameTaken,
    StartTimeout,
)
from .handle import (
    ContainerIdentity,
    KernelContainer,
    forget_at_exit,
    remove_at_exit,
    remove_launch,
)
from .host_environment import accounts, home_archive
from .policy import KernelUser, Settings, choose_user
from .root import RootFilesystem, prepare_root
from .spec import ContainerSpec, Mount, Tmpfs
from .store import KernelDirectory
from .transports import Transport
from .transports.base import LOOK_SECONDS
from .workspace import Workspace

TMPFS_SIZE = 512 * 1024**2  # bytes, for home and for /tmp; counts towards memory_limit

# A container that is being removed keeps its name until the engine is done with it.
NAME_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """What the provisioner was asked to launch, and how."""

    kernel_id: str
    kernel_name: str
    command: KernelCommand
    environment: Mapping[str, str]
    folder: str  # the notebook's, on this host
    resource_dir: str
    connection_info: Mapping[str, Any]
    settings: Settings
    transport: Transport
    independent: bool = False  # outlives this process


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A kernel that listens."""

    container: KernelContainer
    directory: KernelDirectory
    endpoint: Endpoint
    workspace: Workspace
    mounts: tuple[Mount, ...]  # the notebook's folder, and what the user added
    started_in: float  # seconds


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A request after everything was looked up that can be without leaving a trace."""

    request: LaunchRequest
    root: RootFilesystem
    user: KernelUser
    workspace: Workspace
    directory: KernelDirectory
    spec: ContainerSpec  # name and labels come with the launch

    @property
    def is_root_writable(self) -> bool:
        return not self.request.settings.read_only


async def launch(
    request: LaunchRequest,
    engine: Engine,
    log: logging.Logger,
    predecessor: KernelContainer | None = None,
) -> Launched:
    """Run the kernel and wait until it listens.

    `predecessor` is the ended container of a restart: it is started again when it was made to an
    equal definition and ``restart_mode`` is ``in-place``, else removed. Raises the errors of this
    package; whatever was made is removed again, the predecessor too.
    """
    began = time.monotonic()
    async with AsyncExitStack() as undo:
        if predecessor is not None:
            undo.push_async_callback(_quiet_removal, predecessor, log)
        prepared = await _prepare(request, engine, log)
        undo.callback(prepared.directory.remove)
        container = None
        if predecessor is not None:
            container = await _start_again(prepared, predecessor, log)
        if container is None:
            container = await _create(prepared, engine, log, undo)
        undo.callback(container.unfollow)
        endpoint = await _run(prepared, container)
        undo.pop_all()
    return Launched(
        container=container,
        directory=prepared.directory,
        endpoint=endpoint,
        workspace=prepared.workspace,
        mounts=(
            *([prepared.workspace.mount] if prepared.workspace.mount else []),
            *request.settings.mounts,
        ),
        started_in=time.monotonic() - began,
    )


async def _prepare(request: LaunchRequest, engine: Engine, log: logging.Logger) -> _Prepared:
    settings = request.settings
    workspace.check_mounts(settings.mounts)
    place = workspace.choose_workspace(request.folder, settings)
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


def container_spec(
    request: LaunchRequest,
    *,
    root: RootFilesystem,
    user: KernelUser,
    place: Workspace,
    directory: KernelDirectory,
) -> ContainerSpec:
    """The container's whole definition but for its name and labels. Pure."""
    settings = request.settings
    plain, chosen = split_environment(request.environment)
    argv = root.argv
    if chosen:
        argv = with_environment_file(argv, ENVIRONMENT_FILE)
    mounts = [
        *root.mounts,
        Mount(source=str(directory.path), target=PRIVATE_DIR),
        Mount(source=str(directory.sockets), target=SOCKETS_DIR, read_only=False),
        *([place.mount] if place.mount else []),
        *settings.mounts,
    ]
    if "curve_secretkey" in request.connection_info:
        # ipykernel writes its connection file anew when there are keys in it. The file may be
        # written, not its directory: the kernel still cannot put a link in its place.
        file = directory.path / CONNECTION_FILE.rpartition("/")[2]
        mounts.append(Mount(source=str(file), target=CONNECTION_FILE, read_only=False))
    if request.command.uses_resources:
        mounts.append(Mount(source=request.resource_dir, target=RESOURCE_DIR))
    if root.is_host:
        mounts += [
            Mount(source=str(directory.path / name), target=f"/etc/{name}")
            for name in accounts(user)
        ]
    tmpfs = [Tmpfs(target="/tmp", size=TMPFS_SIZE)]
    if settings.read_only:
        tmpfs.append(Tmpfs(target=HOME, size=TMPFS_SIZE, mode=0o700, uid=user.uid, gid=user.gid))
    return ContainerSpec(
        name="",
        image=root.image,
        argv=argv,
        environment={**INIT, "HOME": HOME, "USER": "kernel", **root.environment, **plain},
        working_dir=place.cwd,
        user=str(user),
        mounts=tuple(mounts),
        tmpfs=tuple(tmpfs),
        network=settings.network,
        published_ports=request.transport.published_ports,
        read_only=settings.read_only,
        limits=settings.limits,
        gpus=settings.gpus,
        runtime=settings.runtime,
        extra=settings.extra_create_options,
    )


def _write_files(prepared: _Prepared) -> None:
    """Everything that the kernel reads from its private directory."""
    request, user, directory = prepared.request, prepared.user, prepared.directory
    session = request.environment.get("JPY_SESSION_NAME", "")
    text = connection_file(
        request.connection_info,
        request.transport.kernel_endpoint(),
        kernel_name=request.kernel_name,
        jupyter_session=session,
    )
    directory.write(CONNECTION_FILE.rpartition("/")[2], text, user)
    _, chosen = split_environment(request.environment)
    try:
        script = environment_script(chosen)
    except ValueError as exc:
        raise ConfigurationError(f"The kernel's environment: {exc}.") from exc
    directory.write(ENVIRONMENT_FILE.rpartition("/")[2], script, user)
    if prepared.root.is_host:
        for name, accounts_text in accounts(user).items():
            directory.write(name, accounts_text, user, mode=0o644)


async def _start_again(
    prepared: _Prepared, predecessor: KernelContainer, log: logging.Logger
) -> KernelContainer | None:
    """The predecessor, ready to be started; None when it has to be replaced, and is removed."""
    settings = prepared.request.settings
    same = predecessor.identity.spec_digest == prepared.spec.digest()
    in_place = settings.restart_mode == "in-place"
    has_ended = predecessor.status is not None and not predecessor.status.removed
    if in_place and same and has_ended:
        prepared.directory.clear_sockets()
        _write_files(prepared)
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
    prepared.directory.create(prepared.user)
    _write_files(prepared)
    launch_id = uuid.uuid4().hex
    name = labels.container_name(request.kernel_id)
    spec = replace(
        prepared.spec,
        name=name,
        labels={
            **labels.kernel_labels(
                kernel_id=request.kernel_id,
                launch_id=launch_id,
                kernel_name=request.kernel_name,
                uid=os.getuid(),
            ),
            labels.SPEC: prepared.spec.digest(),
        },
    )
    remove_at_exit(engine, name, launch_id, request.kernel_id)
    undo.push_async_callback(_quiet_undo, engine, name, launch_id, log)
    container_id = await _create_settling_names(engine, spec, request.kernel_id)
    if prepared.is_root_writable:
        await engine.upload(container_id, "/", home_archive(prepared.user))
    if request.independent:
        forget_at_exit(name)
    return KernelContainer(
        engine=engine,
        log=log,
        identity=ContainerIdentity(
            kernel_id=request.kernel_id,
            launch_id=launch_id,
            container_id=container_id,
            container_name=name,
            image=prepared.root.title,
            argv=prepared.root.argv,
            spec_digest=prepared.spec.digest(),
            memory_limit=settings.limits.memory,
        ),
    )


async def _create_settling_names(engine: Engine, spec: ContainerSpec, kernel_id: str) -> str:
    """Create, and when the name is taken look at who has it: the label decides, not the name."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(NameTaken),
        stop=stop_after_delay(NAME_SECONDS),
        wait=wait_exponential(multiplier=0.05, max=1),
        reraise=True,
    ):
        with attempt:
            try:
                return await engine.create(spec)
            except NameTaken:
                try:
                    found = await engine.inspect(spec.name)
                except ContainerGone:
                    raise NameTaken(f"Container name {spec.name} is being freed.") from None
                if found.labels.get(labels.LAUNCH_ID) == spec.labels[labels.LAUNCH_ID]:
                    return found.id  # made, but the answer was lost
                await _clear_name(engine, found, kernel_id)
                raise
    raise AssertionError("unreachable: the last attempt raises")


async def _clear_name(engine: Engine, found: ContainerInfo, kernel_id: str) -> None:
    """Remove an ended predecessor of the same kernel; refuse for anything else."""
    if found.labels.get(labels.KERNEL_ID) != kernel_id:
        raise EngineError(
            f"The container name {found.name} is taken by container {found.id[:12]}, which is "
            "not this kernel's. Rename or remove it."
        )
    if found.state in ("running", "paused", "restarting"):
        raise KernelNotAdoptable(
            f"A kernel with this id runs already, in container {found.id[:12]}, and belongs to "
            "another process. Nothing was changed; shut that kernel down first."
        )
    await engine.remove(found.id)


async def _run(prepared: _Prepared, container: KernelContainer) -> Endpoint:
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
    while endpoint is None or not await request.transport.listening(endpoint):
        if container.status is not None:
            explanation = await container.explain(container.status, starting=True)
            raise KernelDied(f"The kernel died while it started: {explanation}")
        if time.monotonic() > deadline:
            raise StartTimeout(await _explain_timeout(prepared, container))
        await asyncio.sleep(LOOK_SECONDS)
    return endpoint


async def _explain_timeout(prepared: _Prepared, container: KernelContainer) -> str:
    settings = prepared.request.settings
    tail = await container.last_words()
    hint = (
        " A kernel that cannot speak ipc (many that are not Python) needs transport='tcp' and "
        "network='bridge'."
        if settings.transport == "ipc"
        else ""
    )
    return (
        f"The kernel opened no channels within {settings.start_timeout:g} s (start_timeout) and "
        f"was removed. Container {container.identity.container_id[:12]}, image "
        f"{container.identity.image}.{hint}" + (f" Last output: {tail}" if tail else "")
    )


async def _quiet_undo(engine: Engine, name: str, launch_id: str, log: logging.Logger) -> None:
    try:
        await remove_launch(engine, name, launch_id)
    except EngineError as exc:
        log.warning("Container %s may be left behind: %s", name, exc)


async def _quiet_removal(container: KernelContainer, log: logging.Logger) -> None:
    try:
        await container.remove()
    except EngineError as exc:
        log.warning("Container %s may be left behind: %s", container.identity.container_name, exc)
