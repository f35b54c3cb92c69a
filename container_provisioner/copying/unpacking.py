"""A tar archive from a container, which may be hostile, as files of this host.

Nothing is written outside of the folder that was named, no link leads out of it, and nothing is
written through a link. tarfile's data filter judges each member; but it looks at where a path leads
before the member is written, and Pythons before 3.11.13, 3.12.11 and 3.13.4 can be deceived there
(CVE-2025-4517 and others). So the rules are kept here a second time, by looking at one name at a
time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import CopyFailed
from ..exits import format_size

if not hasattr(tarfile, "data_filter"):  # Python 3.11.2, which is Debian 12's, for one
    from backports import tarfile  # type: ignore # has no types, is not there from 3.12 on

# A path has 4096 bytes at most. Python reads what describes a member into memory.
_LONGEST_DESCRIPTION = 1024**2
_DESCRIPTIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class NoArchive(CopyFailed):
    """What came is no archive, or not a whole one."""


@dataclass
class Copied:
    """What was done. `left_out` has a sentence for each member that was not written."""

    files: int = 0
    size: int = 0  # bytes
    left_out: list[str] = field(default_factory=list)


@dataclass
class Made:
    """What an unpacking has done so far, while it goes on."""

    new: set[Path] = field(default_factory=set)  # what is below one of them is not named
    replaced: int = 0  # files that were there before

    def add(self, path: Path) -> None:
        """Before it is made, or a folder on the way to it."""
        first = next((each for each in reversed(path.parents) if not each.exists()), path)
        if not self.new.intersection(first.parents):
            self.new.add(first)

    def take_back(self) -> None:
        """Remove what is new."""
        for path in self.new:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        too_long = member.type in _DESCRIPTIONS and member.size > _LONGEST_DESCRIPTION
        # Our archives hold no sparse files, of whose map, too, there may be any amount.
        if too_long or member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.HeaderError("a member's description makes no sense")
        return member


def unpack(
    archive: IO[bytes], root: Path, top: str, *, is_directory: bool, made: Made | None = None
) -> Copied:
    """Read an archive to its end. All belongs to whoever runs this.

    A directory's members have names relative to it, and become `top` below `root`, or `root` itself
    when `top` is empty. An archive that is none has one member, whatever its name, which becomes
    `top`. What may not be written is left out. A file has its name when it is whole. `made` is kept
    up to date, for whoever ends this from outside. Raises `NoArchive` for what makes no sense, and
    `CopyFailed` when this host does not take it.
    """
    root, copied, made = root.resolve(), Copied(), made or Made()
    try:
        with tarfile.open(fileobj=archive, mode="r|", tarinfo=_Member) as members:
            while (member := members.next()) is not None:
                # They are kept otherwise, however many there are.
                members.members.clear()  # type: ignore[attr-defined]
                if not is_directory and (copied.files or not member.isreg()):
                    raise NoArchive("The container sent something else than the one file.")
                try:
                    _unpack_one(members, member, root, top, made, is_directory=is_directory)
                except (_LeftOut, tarfile.FilterError) as exc:
                    copied.left_out.append(f"{member.name!r} is left out: {exc}")
                else:
                    if not member.isdir():
                        copied.files += 1
                        copied.size += member.size
    except OSError as exc:
        raise CopyFailed(f"{exc.filename or root}: {exc.strerror or exc}.") from exc
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as exc:
        raise NoArchive(f"The container sent an archive that makes no sense: {exc}.") from exc
    return copied


def read_file(archive: IO[bytes], limit: int) -> bytes | None:
    """What is in the one file that an archive is of; None when it is another kind of thing.

    Raises `NoArchive` for what makes no sense, and `CopyFailed` for more than `limit` bytes, of
    which then no more than a header was read.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r|", tarinfo=_Member) as members:
            member = members.next()
            if member is None or not member.isreg():
                return None
            if member.size > limit:
                raise CopyFailed(
                    f"The file has {format_size(member.size)}, and {format_size(limit)} is the "
                    "limit; it was not read."
                )
            file = members.extractfile(member)
            return file.read() if file is not None else None
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as exc:
        raise NoArchive(f"The container sent an archive that makes no sense: {exc}.") from exc


class _LeftOut(Exception):
    """Why a member is not written."""


def _unpack_one(
    members: tarfile.TarFile,
    member: tarfile.TarInfo,
    root: Path,
    top: str,
    made: Made,
    *,
    is_directory: bool,
) -> None:
    name = str(PurePosixPath(top, _plain(member.name))) if is_directory else top
    if name == ".":
        return  # `root` is there
    linkname = member.linkname
    if member.islnk():  # names another member
        linkname = str(PurePosixPath(top, _plain(linkname)))
        # Another name of a link would lead elsewhere, from another folder.
        if not _check_links(root, linkname).is_file() or (root / linkname).is_symlink():
            raise _LeftOut(f"{linkname!r}, which it is another name of, is no file")
    elif member.issym() and ".." in dropwhile(
        lambda part: part == "..", PurePosixPath(linkname).parts
    ):
        raise _LeftOut(f"it leads to {member.linkname!r}, by way of another link")
    safe = tarfile.data_filter(member.replace(name=name, linkname=linkname, deep=False), str(root))
    target = _check_links(root, name)
    if not target.is_symlink() and target.is_dir():
        if not member.isdir():
            raise _LeftOut(f"{target} is a directory")
    elif member.isdir() and target.exists():
        what = "a link" if target.is_symlink() else "not a directory"
        raise _LeftOut(f"{target} is {what}")
    is_there = os.path.lexists(target)
    if not is_there:
        made.add(target)
    if member.isdir():
        if target.is_symlink():
            target.unlink()  # it leads nowhere
        members.extract(safe, root, filter="fully_trusted")  # it was filtered above
        return
    # Beside its place, and put there when it is whole: a link would be written through. Nobody can
    # have a file of that name in the archive.
    beside = target.with_name(f".container-kernel-{secrets.token_hex(8)}")
    safe = safe.replace(name=str(beside.relative_to(root)), deep=False)
    try:
        members.extract(safe, root, filter="fully_trusted")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    made.replaced += is_there


def _plain(name: str) -> str:
    """Without the beginning of an absolute path. Raises `_LeftOut` for one that climbs."""
    parts = PurePosixPath(name.lstrip("/")).parts
    if ".." in parts:
        raise _LeftOut("its name leads out of the directory")
    return str(PurePosixPath(*parts))


def _check_links(root: Path, name: str) -> Path:
    """Where `name` is; raises `_LeftOut` when there is a link on the way."""
    path = root
    *folders, last = PurePosixPath(name).parts
    for folder in folders:
        path /= folder
        if path.is_symlink():
            raise _LeftOut(f"{path} is a link")
    return path / last
