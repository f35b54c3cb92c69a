"""The private directory of one kernel, part of which the kernel can write to."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Literal

from ..command import RESOURCES_NAME, SOCKETS_NAME
from ..errors import KernelNotAdoptable
from ..policy import NOBODY, KernelUser
from .places import private_root, short_name

# "closing" is a run that is being ended, and nobody has said whether another is to follow.
# "warm" is one that nobody has claimed.
Phase = Literal["starting", "running", "closing", "restarting", "ending", "warm"]

_OWNER = "owner"
_RECORD = "record"


class KernelDirectory:
    """The private directory of one kernel: its connection file, its environment, its sockets.

    All of it is mounted read-only into the container but for ``sockets``: what we write, the
    kernel cannot replace by a link to something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sockets = path / SOCKETS_NAME

    @classmethod
    def of(cls, kernel_id: str) -> KernelDirectory:
        """The kernel's directory, which need not exist yet."""
        return cls(private_root() / short_name(kernel_id))

    @classmethod
    def recorded(cls, path: object, kernel_id: str) -> KernelDirectory:
        """As a record has it. Raises `KernelNotAdoptable` for one that is not ours to remove."""
        folder = Path(str(path))
        if not folder.is_absolute() or folder.name != short_name(kernel_id):
            raise KernelNotAdoptable(f"{folder} is not the directory of kernel {kernel_id}.")
        return cls(folder)

    def create(self, user: KernelUser, owner: str) -> None:
        """Make it afresh, for that user; a predecessor's leftovers are removed.

        It appears with its owner's name in it: whoever finds it knows whose it is.
        """
        self.remove()
        new = KernelDirectory(self._half_done(owner))
        new.remove()
        for path in (new.path, new.sockets, new.path / RESOURCES_NAME):
            path.mkdir(mode=0o700)
            self._give(path, user)
        new.open_sockets(user)
        new.mark(owner, "starting")
        new.path.rename(self.path)

    def _half_done(self, owner: str) -> Path:
        """What it is called while it is made, and while it goes."""
        return self.path.with_name(f".{self.path.name}-{owner}")

    def exists(self) -> bool:
        """Whether there is anything in its place."""
        return os.path.lexists(self.path)

    def become(self, waiting: KernelDirectory) -> None:
        """Become a link to a warm container's directory: the container's mounts keep that path."""
        self.remove()
        self.path.symlink_to(waiting.path.name)

    def mark(self, owner: str, phase: Phase) -> None:
        """Note whose the kernel is and what is being done with it, for when its owner dies."""
        self._replace(_OWNER, f"{owner} {phase}".encode("ascii"), 0o600)

    def marked(self) -> tuple[str, str]:
        """Owner and phase; two empty texts when nobody has marked it."""
        try:
            owner, phase = (self.path / _OWNER).read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return "", ""
        return owner, phase

    def keep_record(self, text: str) -> None:
        """For a claimed container, whose labels were there before it was anybody's."""
        self._replace(_RECORD, text.encode("ascii"), 0o600)

    def kept_record(self) -> str:
        """Empty when there is none."""
        try:
            return (self.path / _RECORD).read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""

    def write(self, name: str, text: str, user: KernelUser, *, mode: int = 0o600) -> None:
        """Write a file whole or not at all, readable for that user only (unless `mode` says)."""
        # As bytes, because a variable's value need not be text; Python keeps such as surrogates.
        self._replace(name, os.fsencode(text), mode, user)

    def _replace(
        self, name: str, content: bytes, mode: int, user: KernelUser | None = None
    ) -> None:
        new = self.path / f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(new, flags, mode)
        except FileExistsError:  # of a writer that was killed
            new.unlink()
            descriptor = os.open(new, flags, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)  # the umask may have taken bits away
        if user is not None:
            self._give(new, user)
        new.replace(self.path / name)

    def archive(self, user: KernelUser, *names: str, resources: str = "") -> bytes:
        """A tar archive of these files of it, readable for that user only; and of the folder
        `resources` of this host, readable for all, as such."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name in names:
                tar.add(self.path / name, name, filter=partial(_given, user=user, mode=0o600))
            if resources:
                tar.add(resources, RESOURCES_NAME, filter=_readable)
        return archive.getvalue()

    def take_resources(self, folder: str) -> None:
        """Have a copy of a kernelspec's folder, where the engine could not mount that."""
        shutil.copytree(folder, self.path / RESOURCES_NAME, symlinks=True, dirs_exist_ok=True)

    def open_sockets(self, user: KernelUser) -> None:
        """Let the kernel make its sockets, and remove those of an earlier run.

        A socket that is there then means that somebody listens.
        """
        if os.getuid() == 0:
            # Anybody's but the kernel's: an owner could undo `close_sockets`. Only root can enter
            # the directory above.
            owner = 0 if user.uid != 0 else NOBODY
            os.chown(self.sockets, owner, owner)
            self.sockets.chmod(0o777)
        for path in self.sockets.iterdir():
            if path.is_dir() and not path.is_symlink():
                _remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def close_sockets(self) -> None:
        """The kernel has made its sockets; let it make nothing else there, on the host's disk.

        Only root can: a kernel with our own uid owns whatever directory it may make a socket in.
        """
        if os.getuid() == 0:
            self.sockets.chmod(0o755)

    def remove(self) -> None:
        """Remove all of it. Quiet when there is nothing.

        It goes as `create` makes it: as long as any of it is there, its owner can be read from it,
        or from its name.
        """
        if self.path.is_symlink():
            claimed = self.path.with_name(self.path.readlink().name)
            self.path.unlink()
            KernelDirectory(claimed).remove()
            return
        owner, _ = self.marked()
        if owner and not self.path.name.startswith("."):
            going = self._half_done(owner)
            _remove_tree(going)
            with contextlib.suppress(OSError):
                self.path.rename(going)
            _remove_tree(going)
        _remove_tree(self.path)

    @staticmethod
    def _give(path: Path, user: KernelUser) -> None:
        if os.getuid() == 0:
            os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _given(member: tarfile.TarInfo, *, user: KernelUser, mode: int) -> tarfile.TarInfo:
    member.uid, member.gid, member.uname, member.gname = user.uid, user.gid, "", ""
    member.mode = mode
    return member


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isdir() or member.isfile()):
        return None
    return _given(member, user=KernelUser(0, 0), mode=0o755 if member.isdir() else 0o644)


def _remove_tree(path: Path) -> None:
    """Remove a directory, whatever modes a kernel gave to what is below. Follows no link."""
    _open_up(path)
    for folder, names, _ in os.walk(path):
        for name in names:
            _open_up(Path(folder, name))
    shutil.rmtree(path, ignore_errors=True)


def _open_up(path: Path) -> None:
    with contextlib.suppress(OSError):
        if not path.is_symlink():
            path.chmod(0o700)
