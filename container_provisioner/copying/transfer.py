"""A tar archive out of a running container, or into it, by a command that runs there.

The engine's own archive calls do not see what is mounted over the root filesystem: a kernel's home,
its ``/tmp`` and its workspace. They refuse a read-only one, and they act as root. A command sees
what the kernel sees, and can do no more than the kernel can; what it writes is the kernel's.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from ..engine.base import Execution
from ..engine.calls import Engine
from ..errors import CopyFailed
from ..exits import COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND, log_tail

T = TypeVar("T")

# Each waits for a line. The first two say on a line what the path is, and then are the archive's
# other end. The path's last component may be a link. The writer says, too, which process it is and
# whether the name in the directory is new; the third takes back what it has made there.
READ = (
    """\
read go
command -v tar >/dev/null || exit 127
path=$1
if [ -L "$path" ]; then path=$(readlink -f -- "$path"); fi
if [ -d "$path" ]; then
    echo directory
    if [ "$2" = inside ]; then cd -- "$path" && exec tar -cf - .; fi
elif [ -e "$path" ]; then echo file
else echo absent; exit
fi
cd -- "$(dirname -- "$path")" && exec tar -cf - -- "$(basename -- "$path")"
""",
    """\
import os, sys, tarfile
while os.read(0, 1) not in (b"\\n", b""): pass
path, how = sys.argv[1:]
if os.path.islink(path): path = os.path.realpath(path)
kind = "directory" if os.path.isdir(path) else "file" if os.path.exists(path) else "absent"
os.write(1, (kind + "\\n").encode())
if kind != "absent":
    inside = kind == "directory" and how == "inside"
    name = "." if inside else os.path.basename(os.path.normpath(path))
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive: archive.add(path, name)
""",
)
WRITE = (
    """\
read go
command -v tar >/dev/null || exit 127
target=$1
if [ -d "$1" ]; then kind=directory parent=$1 target=$1/$2
else
    parent=$(dirname -- "$1")
    if [ ! -d "$parent" ]; then kind=nowhere
    elif [ -e "$1" ]; then kind=file
    else kind=absent
    fi
fi
if [ -e "$target" ] || [ -L "$target" ]; then new=; else new=new; fi
echo $kind $$ $new
[ $kind = nowhere ] && exit
cd -- "$parent" && exec tar -xof -
""",
    """\
import os, sys, tarfile
while os.read(0, 1) not in (b"\\n", b""): pass
path, name = sys.argv[1:]
parent, target = os.path.dirname(os.path.normpath(path)) or ".", path
kind = "nowhere" if not os.path.isdir(parent) else "file" if os.path.exists(path) else "absent"
if os.path.isdir(path): kind, parent, target = "directory", path, os.path.join(path, name)
new = "" if os.path.lexists(target) else "new"
os.write(1, f"{kind} {os.getpid()} {new}\\n".encode())
if kind != "nowhere":
    os.chdir(parent)
    with tarfile.open(fileobj=open(0, "rb"), mode="r|") as archive: archive.extractall()
""",
)

TAKE_BACK = (
    """\
read go
kill -9 "$2" 2>/dev/null
tries=0
while kill -0 "$2" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
echo absent
exec rm -rf -- "$1"
""",
    """\
import os, shutil, sys, time
while os.read(0, 1) not in (b"\\n", b""): pass
path, process = sys.argv[1:]
try:
    os.kill(int(process), 9)
    for _ in range(100): os.kill(int(process), 0); time.sleep(0.05)
except OSError: pass
os.write(1, b"absent\\n")
if os.path.isdir(path) and not os.path.islink(path): shutil.rmtree(path)
elif os.path.lexists(path): os.unlink(path)
""",
)


class _Answer(io.RawIOBase):
    """What a command writes, as a file."""

    def __init__(self, execution: Execution) -> None:
        self._pieces = iter(execution)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class Transfer:
    """A command under way. All of it blocks, and is for `in_thread`."""

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.answer = io.BufferedReader(_Answer(execution), 256 * 1024)
        self.found = ""  # directory, file, absent, or nowhere
        self.process = ""  # the writer's, in the container
        self.is_new = False  # what it is to write
        self._was_closed = False

    def begin(self) -> bool:
        """False when there is no such command in the container."""
        self.execution.send(b"\n")
        line = self.answer.readline(1024).decode(errors="replace")
        self.found, self.process, is_new, *_ = [*line.split(), "", "", ""]
        self.is_new = bool(is_new)
        if self.found in ("directory", "file", "absent", "nowhere"):
            return True
        if self.execution.exit_code() in (COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND):
            return False
        self.finish()
        raise CopyFailed("The container gave no answer that makes sense.")

    def finish(self) -> None:
        """Read to its end. Raises `CopyFailed` with the command's words when it failed."""
        while self.answer.read(256 * 1024):
            pass
        if self._was_closed:  # nobody waits for how it ends
            raise CopyFailed("The connection was closed.")
        if code := self.execution.exit_code():
            words = log_tail(self.execution.errors(), lines=3)
            raise CopyFailed(
                f"In the container: {words or f'the command ended with exit code {code}'}"
            )

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Not waited for any longer than until it is cancelled: that closes the connection."""
        call = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self._was_closed = True
            self.execution.close()
            with contextlib.suppress(Exception):
                await call
            raise


@asynccontextmanager
async def transfer(
    engine: Engine, container: str, scripts: tuple[str, str], arguments: Sequence[str], python: str
) -> AsyncIterator[Transfer]:
    """Begin with the image's shell and tar, or with its `python` (empty when it has none).

    Raises `CopyFailed` when it has none of them, `EngineError` when the container does not run.
    """
    shell, program = scripts
    ways = [("sh", "-c", shell, "sh", *arguments)]
    if python:
        ways.append((python, "-c", program, *arguments))
    for argv in ways:
        execution = await engine.execute(container, argv)
        begun = Transfer(execution)
        try:
            if await begun.in_thread(begun.begin):
                yield begun
                return
        finally:
            execution.close()
    raise CopyFailed(
        f"There is no tar and no shell{' and no Python' if python else ''} in container "
        f"{container[:12]} to copy with. What is in the kernel's workspace is on this host, too."
    )


async def take_back(
    engine: Engine, container: str, path: str, writer: Transfer, python: str
) -> None:
    """End a writer whose connection was closed, and remove what it was to make at `path`."""
    arguments = (path, writer.process)
    async with transfer(engine, container, TAKE_BACK, arguments, python) as removal:
        await removal.in_thread(removal.finish)
