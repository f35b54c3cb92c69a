"""``cp``: files into a running kernel's container, and out of it."""

from __future__ import annotations

import os
import posixpath
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from ..command import is_python
from ..engine.base import RUNNING
from ..engine.calls import Engine
from ..errors import CopyFailed, EngineError, KernelNotFound
from ..exits import format_size
from .asking import run, the_engine
from .kernels import ListedKernel, complete_kernel, find_kernel, list_kernels
from .output import json_option, print_json
from .packing import pack
from .transfer import READ, WRITE, Transfer, transfer
from .unpacking import Copied, NoArchive, unpack

STREAM = "-"
_PIECE = 256 * 1024  # bytes


@dataclass(frozen=True)
class Place:
    """One of the two paths. `kernel` is what was typed; empty for this host."""

    kernel: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """As ``docker cp`` reads it: what has a slash or a dot before the colon is a path here."""
        before, colon, after = text.partition(":")
        if not colon or not before or "/" in before or before.startswith("."):
            return cls("", text)
        return cls(before, after or ".")

    @property
    def name(self) -> str:
        """Of what is copied; empty when it is the content of a directory."""
        last = posixpath.basename(self.path.rstrip("/"))
        is_content = self.path.endswith("/.") or last in ("", ".", "..")
        return "" if is_content else last


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    found = complete_kernel(context, parameter, incomplete)
    return [
        *(click.shell_completion.CompletionItem(f"{i.value}:", help=i.help) for i in found),
        click.shell_completion.CompletionItem(incomplete, type="file"),
    ]


@click.command()
@click.argument("src", shell_complete=_complete)
@click.argument("dst", shell_complete=_complete)
@json_option
def cp(src: str, dst: str, as_json: bool) -> None:
    """Copy files between a running kernel's container and this machine.

    \b
    jupyter container-kernel cp KERNEL:results.csv .
    jupyter container-kernel cp data KERNEL:/tmp
    jupyter container-kernel cp KERNEL:models - | tar -t

    One of SRC and DST is KERNEL:PATH; a relative PATH begins at the folder in which the kernel
    started. A directory is copied with all that is in it, SRC/. stands for what is in it, and what
    exists already is replaced. '-' is a tar archive on standard input or output.

    It acts as the kernel's own user: what it writes there belongs to the kernel, and it can reach
    what the kernel can. What it writes here is yours and stays below DST; a link that would lead
    out is left out.
    """
    source, destination = Place.parse(src), Place.parse(dst)
    if bool(source.kernel) == bool(destination.kernel):
        raise click.UsageError("One of SRC and DST has to be KERNEL:PATH, and one a path here.")
    kernel, copied = run(_copy(source, destination))
    for words in copied.left_out:
        click.echo(words, err=True)
    if STREAM in (src, dst):
        return
    if as_json:
        print_json(
            {
                "kernel_id": kernel.kernel_id,
                "files": copied.files,
                "bytes": copied.size,
                "left_out": copied.left_out,
            }
        )
    else:
        files = "1 file" if copied.files == 1 else f"{copied.files} files"
        click.echo(f"{files} copied, {format_size(copied.size)}.", err=True)
    if copied.left_out:
        raise CopyFailed(
            f"{len(copied.left_out)} of what was to be copied was left out, see above."
        )


async def _copy(source: Place, destination: Place) -> tuple[ListedKernel, Copied]:
    engine = await the_engine()
    kernel = find_kernel(await list_kernels(engine), source.kernel or destination.kernel)
    if kernel.waits:
        raise KernelNotFound(f"{kernel.container.name} waits in a warm pool and is no kernel yet.")
    if kernel.container.state not in RUNNING:
        raise CopyFailed(
            f"Kernel {kernel.kernel_id} does not run. Files that are not in its home, in /tmp or "
            f"in its workspace are there still: 'docker cp {kernel.container.name}:…'."
        )
    if kernel.container.state == "paused":
        raise CopyFailed(
            f"Kernel {kernel.kernel_id} is paused; 'docker unpause {kernel.container.name}'."
        )
    try:
        if source.kernel:
            return kernel, await _out(engine, kernel, source, destination.path)
        return kernel, await _in(engine, kernel, source, destination.path)
    except CopyFailed as exc:
        raise exc.about(kernel.kernel_id) from exc.__cause__


def _python(kernel: ListedKernel) -> str:
    argv = kernel.facts.identity.argv if kernel.facts is not None else ()
    return next(filter(is_python, argv), "")


def _arrival(source: Place, destination: str, found: str, *, is_directory: bool) -> str:
    """What the copy is called in the destination, or beside it where that is no directory.

    Empty when the content goes right into it.
    """
    if found == "directory":
        return source.name
    if found == "nowhere":
        raise CopyFailed(f"There is no directory for {destination!r}.")
    if found == "file" and is_directory:
        raise CopyFailed(f"{destination!r} is not a directory, and {source.path!r} is one.")
    if destination.endswith("/") and not is_directory:
        raise CopyFailed(f"There is no directory {destination!r}.")
    return posixpath.basename(posixpath.normpath(destination))


async def _out(engine: Engine, kernel: ListedKernel, source: Place, destination: str) -> Copied:
    to_stream = destination == STREAM
    if to_stream and sys.stdout.isatty():
        raise click.UsageError("A tar archive is not for a terminal; write it to a file or a pipe.")
    arguments = (source.path, "whole" if to_stream else "inside")
    container = kernel.container.id
    async with transfer(engine, container, READ, arguments, _python(kernel)) as read:
        if read.found == "absent":
            raise CopyFailed(f"There is no {source.path!r} in container {container[:12]}.")
        is_directory = read.found == "directory"
        if to_stream:
            return await read.in_thread(lambda: _pass_on(read, sys.stdout.buffer))
        path = Path(destination)
        found = "directory" if path.is_dir() else "file" if path.exists() else "absent"
        if found == "absent" and not path.parent.is_dir():
            found = "nowhere"
        top = _arrival(source, destination, found, is_directory=is_directory)
        root = path if found == "directory" else path.parent

        def write() -> Copied:
            try:
                copied = unpack(read.answer, root, top, is_directory=is_directory)
            except NoArchive:
                read.finish()  # it may say why
                raise
            read.finish()
            return copied

        return await read.in_thread(write)


def _pass_on(read: Transfer, stream: IO[bytes]) -> Copied:
    while data := read.answer.read1(_PIECE):
        stream.write(data)
    stream.flush()
    read.finish()
    return Copied()


async def _in(engine: Engine, kernel: ListedKernel, source: Place, destination: str) -> Copied:
    from_stream = source.path == STREAM
    if from_stream and sys.stdin.isatty():
        raise click.UsageError("'-' reads a tar archive from a file or a pipe, not a terminal.")
    path = Path(source.path)
    if not from_stream and not path.exists():
        raise CopyFailed(f"There is no {source.path!r} on this machine.")
    if not (from_stream or path.is_dir() or path.is_file()):
        raise CopyFailed(f"{source.path!r} is neither a file nor a directory.")
    container = kernel.container.id
    async with transfer(engine, container, WRITE, (destination,), _python(kernel)) as write:
        if from_stream:
            if write.found != "directory":
                raise CopyFailed(f"There is no directory {destination!r} for an archive.")
            stream = sys.stdin.buffer
            return await write.in_thread(lambda: _feed(write, lambda: _send(write, stream)))
        top = _arrival(source, destination, write.found, is_directory=path.is_dir())
        if not top and not path.is_dir():
            raise CopyFailed(f"{source.path!r} is not a directory.")
        send = write.execution.send
        return await write.in_thread(lambda: _feed(write, lambda: pack(path, top, send)))


def _send(write: Transfer, stream: IO[bytes]) -> Copied:
    # Unbuffered: this thread may still wait in there when the process ends.
    descriptor = stream.fileno()
    while data := os.read(descriptor, _PIECE):
        write.execution.send(data)
    return Copied()


def _feed(write: Transfer, work: Callable[[], Copied]) -> Copied:
    """Send while its answer is read, which says why it ends before it has all."""
    done: list[Copied] = []
    failures: list[OSError] = []

    def feed() -> None:
        try:
            done.append(work())
        except EngineError:
            pass  # it has ended; its exit code says why
        except OSError as exc:
            failures.append(exc)
        write.execution.end_input()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        write.finish()
    except CopyFailed:
        feeder.join(1)
        if not failures:
            raise
    feeder.join()
    if failures:
        exc = failures[0]
        raise CopyFailed(f"{exc.filename}: {exc.strerror or exc}.") from exc
    return done[0] if done else Copied()
