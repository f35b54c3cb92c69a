"""Files out of an archive whose author nobody knows: an image's.

Read in memory, and by name. Nothing is unpacked, no link leads out of the archive, and sizes are
bounded by what is read, not by what a header says.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath

from ..errors import EngineError
from .kernelspec import Resource

# Bytes of an archive, and of what is in it; of one file; and how many files. A logo has 10 KiB.
ARCHIVE_BYTES, FILE_BYTES, FILES = 16 * 2**20, 2**20, 2000


def read_archive(archive: bytes) -> tuple[dict[str, Resource], dict[str, str]]:
    """The files and the symbolic links in it, by path; a link's target is as it was written.

    What is larger than `FILE_BYTES`, and what has an absolute path or ``..`` in it, is left out.
    Raises `EngineError` for what is no archive, or has too much in it.
    """
    files: dict[str, Resource] = {}
    links: dict[str, str] = {}
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            for number, member in enumerate(members):
                name = _safe(member.name)
                if name and member.issym():
                    links[name] = member.linkname
                elif name and (content := _content(members, member)) is not None:
                    files[name] = Resource(content=content, executable=bool(member.mode & 0o100))
                    size += len(content)
                if number >= FILES or size > ARCHIVE_BYTES:
                    raise EngineError(
                        f"The image has more than {FILES} files or {ARCHIVE_BYTES} bytes among "
                        "its kernelspecs, which are not read."
                    )
    except (tarfile.TarError, ValueError) as exc:
        raise EngineError(f"The engine's archive of the image cannot be read: {exc}") from exc
    return files, links


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or not name.isprintable()
    return "" if unsafe or not path.parts else str(path)


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    if member.issparse() or not (member.isreg() or member.islnk()):
        return None
    try:
        file = members.extractfile(member)  # a hard link's content is that of an earlier member
    except (KeyError, RecursionError):
        return None
    content = file.read(FILE_BYTES + 1) if file is not None else b""
    return content if len(content) <= FILE_BYTES else None
