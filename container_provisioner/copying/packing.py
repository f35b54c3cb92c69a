"""Files of this host as a tar archive for a container."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .unpacking import Copied

_PIECE = 256 * 1024  # bytes


class _Pipe(io.RawIOBase):
    """What tarfile wants of a file to write to."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def write(self, data: Any) -> int:
        self._send(data)
        return len(data)


def pack(source: Path, top: str, send: Callable[[bytes], None]) -> Copied:
    """Send an archive with `source` as `top`, or with what is in it when `top` is empty.

    Links in a directory stay links; of `source` itself, what it leads to is sent. Raises OSError
    for a file that cannot be read; what `send` raises is raised.
    """
    copied = Copied()

    def admit(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        archive.members.clear()  # type: ignore[attr-defined] # kept else, however many
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            copied.left_out.append(f"{member.name!r} is left out: it is a device or a pipe")
            return None
        if not member.isdir():
            copied.files += 1
            copied.size += member.size
        member.uid = member.gid = 0  # nobody of this host's: it becomes the kernel's
        member.uname = member.gname = ""
        return member

    source = source.resolve()
    with _archive(send) as archive:
        if top:
            archive.add(source, top, filter=admit)
        else:
            for path in sorted(source.iterdir()):
                archive.add(path, path.name, filter=admit)
    return copied


def pack_bytes(content: bytes, name: str, send: Callable[[bytes], None]) -> Copied:
    """The same of one file, whose content is at hand."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    with _archive(send) as archive:
        archive.addfile(member, io.BytesIO(content))
    return Copied(files=1, size=member.size)


def _archive(send: Callable[[bytes], None]) -> tarfile.TarFile:
    # The format that every tar understands.
    return tarfile.open(fileobj=_Pipe(send), mode="w|", format=tarfile.GNU_FORMAT, bufsize=_PIECE)
