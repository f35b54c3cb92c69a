"""The notebook's folder: whether it may be mounted, and what paths mean on both sides."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .environment import HOME
from .errors import WorkspaceError
from .policy import KernelUser, Settings
from .spec import Mount
from .topology import LOCAL, Topology

# Mounting one of these would show the kernel the host rather than a notebook's folder.
SYSTEM_DIRS = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys",
               "/usr", "/var", "/home", "/opt", "/srv", "/mnt", "/media", "/tmp")  # fmt: skip
# Where engines listen, whichever of them is ours.
ENGINE_SOCKETS = ("/run/docker.sock", "/run/podman/podman.sock")

# Each folder in it is somebody's home directory, which a server that runs as root could read.
HOMES = Path("/home")


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The kernel's working directory, and the mount that puts the notebook's folder there.

    `mount` is None when there is nothing to see; `notice` then, or when something else about the
    folder will surprise, is a sentence for the log.
    """

    cwd: str
    mount: Mount | None = None
    notice: str = ""


def choose_workspace(
    folder: str, settings: Settings, *, runtime: Path | None = None, home: Path | None = None
) -> Workspace:
    """Mount `folder` at its own path, as the settings say. Raises `WorkspaceError`.

    The whole filesystem is never mounted. A home directory (it holds keys), a system directory, or
    what holds Jupyter's own `runtime` directory (with the server's token and the sockets of the
    other kernels) only when the user asked for it with ``workspace``, not by the profile alone.
    """
    path = Path(folder).expanduser().absolute()
    if ".." in path.parts:
        path = path.resolve()
    if settings.workspace == "none":
        return Workspace(cwd=HOME)
    if settings.topology.is_remote:
        return Workspace(
            cwd=HOME,
            notice=f"The engine is {settings.topology.where}, where the notebook's folder "
            f"{str(path)!r} is not: the kernel starts in {HOME}. Set workspace='none' to say that "
            "this is meant.",
        )
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where we may not look
        raise WorkspaceError(f"The notebook's folder {str(path)!r} is not a directory.")
    real = path.resolve()
    home = (home or Path.home()).resolve()
    # What the engine would mount: a server in a container may have it by another name.
    there = settings.topology.host_path(str(real))
    if "/" in (str(real), there):
        return Workspace(cwd=HOME, notice="The root directory is not mounted into a kernel.")
    system = {Path(name).resolve() for name in SYSTEM_DIRS}  # /bin is a link on most hosts
    too_much = real in system or real.parent == HOMES or home.is_relative_to(real)
    what = "is a home or system directory" if too_much else ""
    if runtime is not None and _holds_runtime(real, runtime, settings.topology):
        what = what or f"holds Jupyter's runtime directory ({runtime})"
    if what and not settings.workspace_named:
        return Workspace(
            cwd=HOME,
            notice=f"{str(path)!r} {what} and is not mounted into the kernel, which starts in "
            f"{HOME}. Keep notebooks in a folder of their own, or set workspace='ro' or 'rw' to "
            "mount it all the same.",
        )
    if there is None:
        why = f"The notebook's folder {settings.topology.why_not(str(real))}"
        cure = "Keep notebooks on one of these mounts, or give this server's container another"
        if settings.workspace_named:
            raise WorkspaceError(f"{why}. {cure}, or set workspace='none'.")
        return Workspace(cwd=HOME, notice=f"{why}: the kernel starts in {HOME}. {cure}.")
    mount = Mount(source=str(real), target=str(path), read_only=settings.workspace == "ro")
    return Workspace(cwd=str(path), mount=mount)


def _holds_runtime(folder: Path, runtime: Path, topology: Topology) -> bool:
    if runtime.resolve().is_relative_to(folder):
        return True
    if topology.own is None:
        return False
    # One volume may be mounted here by two names.
    there, here = topology.host_path(str(runtime)), topology.host_path(str(folder))
    return bool(there and here) and PurePosixPath(str(there)).is_relative_to(str(here))


def owner(folder: str) -> KernelUser:
    """Whose a folder is."""
    status = Path(folder).stat()
    return KernelUser(status.st_uid, status.st_gid)


def check_access(mount: Mount, user: KernelUser) -> str:
    """Whether `user` can use a mounted folder. Returns a notice when it cannot write to it.

    Raises `WorkspaceError` when it cannot even enter: the kernel would start in a folder that is
    empty to it. Root too: it has no capabilities. Mode bits only; an access list may allow more,
    so writing is not refused.
    """
    status = Path(mount.source).stat()
    if user.uid == status.st_uid:
        bits = status.st_mode >> 6
    elif user.gid == status.st_gid:
        bits = status.st_mode >> 3
    else:
        bits = status.st_mode
    mode = stat.filemode(status.st_mode)
    if bits & 0o5 != 0o5:
        raise WorkspaceError(
            f"The kernel runs as uid {user.uid} and cannot read {mount.source!r} ({mode}, owner "
            f"{status.st_uid}). Give others access (chmod o+rx), or set user to the owner's "
            "uid:gid."
        )
    if not mount.read_only and not bits & 0o2:
        return (
            f"The kernel runs as uid {user.uid} and can read but not write {mount.source!r} "
            f"({mode}, owner {status.st_uid}). Change its owner, or set user to the owner's "
            "uid:gid."
        )
    return ""


def check_mounts(
    mounts: Iterable[Mount], *, engine_socket: str, topology: Topology = LOCAL
) -> None:
    """Raises `WorkspaceError` for a source that does not exist, or that holds the engine's socket.

    Whoever reaches that socket is root on the engine's host. `engine_socket` is empty for an engine
    that has none on this host: then only the usual sockets are looked for, and whether a source
    exists the engine will say. When the server is in a container, sources are paths in there, on
    one of its mounts.
    """
    if not engine_socket and topology.own is None:
        for mount in mounts:
            _check_usual_sockets(mount.source, mount.source)
        return
    sockets = [Path(path).resolve() for path in (engine_socket, *ENGINE_SOCKETS) if path]
    for mount in mounts:
        if not os.path.exists(mount.source):  # noqa: PTH110 - never raises
            raise WorkspaceError(
                f"mounts: {mount.source!r} does not exist. Create it, or correct the trait."
            )
        source = Path(mount.source).resolve()
        if any(socket.exists() and socket.is_relative_to(source) for socket in sockets):
            raise WorkspaceError(_holds_socket(mount.source))
        if topology.own is not None:
            there = topology.host_path(mount.source)
            if there is None:
                raise WorkspaceError(
                    f"mounts: {topology.why_not(mount.source)}. Give this server's container a "
                    "mount with it."
                )
            _check_usual_sockets(there, mount.source)


def _check_usual_sockets(there: str, source: str) -> None:
    """`there` is what `source` is called on the engine's host, whose links nobody here can see."""
    holder = PurePosixPath(os.path.normpath(there))
    if any(
        PurePosixPath(prefix + path).is_relative_to(holder)
        for path in ENGINE_SOCKETS
        for prefix in ("", "/var")
    ):
        raise WorkspaceError(_holds_socket(source))


def _holds_socket(source: str) -> str:
    return (
        f"{source!r} holds the engine's socket and is not mounted: it would hand the engine to the "
        "kernel, and with it the engine's host. Mount a folder below it."
    )


def resolve(path: str, *, cwd: str, mounts: Iterable[Mount]) -> str | None:
    """The host's path of a path as the kernel sees it; None for what is on none of the mounts.

    Symbolic links are followed and may not lead out of the mount: the answer never reveals
    whether anything exists elsewhere on the host.
    """
    if path.startswith("~"):
        return None  # the home in the container, which is not the host's
    inside = PurePosixPath("/" + os.path.normpath(PurePosixPath(cwd) / path).lstrip("/"))
    for mount in sorted(mounts, key=lambda mount: len(mount.target), reverse=True):
        if not inside.is_relative_to(mount.target):
            continue
        source = Path(mount.source).resolve()
        try:
            found = (source / inside.relative_to(mount.target)).resolve()
            return str(found) if found.is_relative_to(source) and found.exists() else None
        except (OSError, RuntimeError, ValueError):  # links in a loop, a name no file can have
            return None
    return None
