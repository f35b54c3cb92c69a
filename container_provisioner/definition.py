"""What was asked for, as the definition of a container and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import (
    CONNECTION_FILE,
    CONNECTION_NAME,
    ENVIRONMENT_FILE,
    ENVIRONMENT_NAME,
    PRIVATE_DIR,
    RESOURCE_DIR,
    SOCKETS_DIR,
    KernelCommand,
)
from .connection import connection_file, is_encrypted
from .environment import HOME, INIT, environment_script, split_environment, with_environment_file
from .errors import ConfigurationError
from .host_environment import account_files
from .internal_network import internal_network_name
from .policy import INTERNAL, KernelUser, Settings
from .root import RootFilesystem
from .spec import ContainerSpec, Mount, Tmpfs
from .store import KernelDirectory
from .topology import Topology
from .transports import Transport
from .workspace import Workspace

_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

TMPFS_SIZE = 512 * 1024**2  # bytes, for home and for /tmp; counts towards memory_limit


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
    server: str = ""  # which server's kernel it is; empty is none's


def container_spec(
    request: LaunchRequest,
    *,
    root: RootFilesystem,
    user: KernelUser,
    workspace: Workspace,
    directory: KernelDirectory,
) -> ContainerSpec:
    """The container's whole definition but for its name and labels. Pure."""
    settings = request.settings
    plain, chosen = split_environment(request.environment)
    argv = root.argv
    if chosen:
        argv = with_environment_file(argv, ENVIRONMENT_FILE)
    taken = {mount.target for mount in root.mounts}
    is_shared = settings.topology.shares_files
    there = directory_on_host(directory, settings.topology)
    # A folder below /usr is there already, and the engine takes each target once.
    seen = workspace.mount
    workspace_mounts = [seen] if seen is not None and seen.target not in taken else []
    mounts = [
        *root.mounts,
        *(_private_mounts(request, root, user, there) if is_shared else []),
        *map(settings.topology.for_engine, (*workspace_mounts, *settings.mounts)),
    ]
    tmpfs = [Tmpfs(target="/tmp", size=TMPFS_SIZE)]
    # The root filesystem of a swarm's service is not there to put a home into, before it runs.
    if settings.read_only or settings.topology.is_swarm:
        tmpfs.append(Tmpfs(target=HOME, size=TMPFS_SIZE, mode=0o700, uid=user.uid, gid=user.gid))
    return ContainerSpec(
        name="",
        image=root.image,
        argv=argv,
        directory=str(there.path),
        environment={**INIT, "HOME": HOME, "USER": "kernel", **root.environment, **plain},
        working_dir=workspace.cwd,
        user=str(user),
        mounts=tuple(mounts),
        # What is in the private directory is delivered there before each start.
        volumes=() if is_shared else (PRIVATE_DIR,),
        tmpfs=tuple(tmpfs),
        network=network_name(settings),
        published_ports=request.transport.published_ports,
        published_on=request.transport.published_on,
        read_only=settings.read_only,
        limits=settings.limits,
        gpus=settings.gpus,
        runtime=settings.runtime,
        extra=settings.extra_create_options,
        placement=settings.placement,
    )


def directory_on_host(directory: KernelDirectory, topology: Topology) -> KernelDirectory:
    """Where the engine finds it.

    Only the folder around it is looked up. Its own name stays as it is: that may be a link (see
    `KernelDirectory.become`), and what it leads to may be replaced.
    """
    folder = topology.host_path(str(directory.path.parent)) if topology.own else None
    return KernelDirectory(Path(folder, directory.path.name)) if folder else directory


def _private_mounts(
    request: LaunchRequest, root: RootFilesystem, user: KernelUser, directory: KernelDirectory
) -> list[Mount]:
    """The private directory, as the engine knows it, and what lies on top of it."""
    mounts = [
        Mount(source=str(directory.path), target=PRIVATE_DIR),
        Mount(source=str(directory.sockets), target=SOCKETS_DIR, read_only=False),
    ]
    if is_encrypted(request.connection_info):
        # ipykernel writes its connection file anew when there are keys in it. The file may be
        # written, not its directory: the kernel still cannot put a link in its place.
        file = directory.path / CONNECTION_NAME
        mounts.append(Mount(source=str(file), target=CONNECTION_FILE, read_only=False))
    if request.command.uses_resources and request.settings.topology.own is None:
        mounts.append(Mount(source=request.resource_dir, target=RESOURCE_DIR))
    own = {mount.target for mount in request.settings.mounts}
    for name in etc_files(request.settings, root, user):
        if f"/etc/{name}" not in own:
            mounts.append(Mount(source=str(directory.path / name), target=f"/etc/{name}"))
    return mounts


def etc_files(settings: Settings, root: RootFilesystem, user: KernelUser) -> dict[str, str]:
    """Names and texts of files in ``/etc`` that neither the root filesystem nor the engine has."""
    return {
        **(account_files(user) if root.is_host else {}),
        **({"hosts": _hosts(settings)} if settings.network == "none" else {}),
    }


def _hosts(settings: Settings) -> str:
    """The engine writes one for a container that has a network of its making."""
    text = _HOSTS
    for entry in settings.extra_create_options.get("HostConfig", {}).get("ExtraHosts") or ():
        name, _, address = entry.partition("=" if "=" in entry else ":")
        text += f"{address.strip('[]')}\t{name}\n"
    return text


def network_name(settings: Settings) -> str:
    """What the setting ``network`` is called by the engine."""
    if settings.network == INTERNAL:
        return internal_network_name(settings.topology)
    return settings.network


def write_files(request: LaunchRequest, *, directory: KernelDirectory, user: KernelUser) -> None:
    """Write the files in its private directory that are this kernel's own.

    Raises `ConfigurationError` for a variable's name that no shell can set.
    """
    session = request.environment.get("JPY_SESSION_NAME", "")
    text = connection_file(
        request.connection_info,
        request.transport.kernel_endpoint(),
        kernel_name=request.kernel_name,
        jupyter_session=session,
    )
    directory.write(CONNECTION_NAME, text, user)
    _, chosen = split_environment(request.environment)
    try:
        script = environment_script(chosen)
    except ValueError as exc:
        raise ConfigurationError(f"The kernel's environment: {exc}.") from exc
    directory.write(ENVIRONMENT_NAME, script, user)


def write_etc_files(
    settings: Settings, *, directory: KernelDirectory, user: KernelUser, root: RootFilesystem
) -> None:
    """Write those that are the same for all kernels of that user."""
    for name, text in etc_files(settings, root, user).items():
        directory.write(name, text, user, mode=0o644)
