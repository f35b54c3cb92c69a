"""``cp``: files into a running kernel's container, and out of it."""

from __future__ import annotations

import asyncio
import posixpath
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..command import python_in
from ..copying.packing import pack
from ..copying.streams import feed, pass_on, send
from ..copying.transfer import READ, WRITE, take_back, transfer
from ..copying.unpacking import Copied, Made, NoArchive, unpack
from ..definition import TMPFS_SIZE
from ..engine.base import ENDED
from ..engine.calls import Engine
from ..environment import HOME
from ..errors import CopyFailed, KernelNotFound, KernelNotRunning
from ..exits import format_size
from .asking import run, the_engine
from .kernels import ListedKernel, check_runs, complete_kernel, find_kernel, list_kernels
from .output import json_option, print_json
from .progress import has_said_that_it_ends, say_that_it_ends

STREAM = "-"


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


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    found = complete_kernel(context, parameter, incomplete)
    return [
        *(CompletionItem(f"{item.value}:", help=item.help) for item in found),
        CompletionItem(incomplete, type="file"),
    ]


@click.command()
@click.argument("src", shell_complete=_complete)
@click.argument("dst", shell_complete=_complete)
@json_option
def cp(src: str, dst: str, as_json: bool) -> None:
    """Copy files between a running kernel's container and this machine.

    \b
    jupyter container-kernel cp KERNEL:/tmp/results.csv .
    jupyter container-kernel cp data KERNEL:/tmp
    jupyter container-kernel cp KERNEL:/home/kernel/models - | tar -t

    One of SRC and DST is KERNEL:PATH. In the sandbox a kernel writes to its home, which is
    /home/kernel, and to /tmp; a relative PATH begins at the folder in which the kernel started. A
    directory is copied with all that is in it, SRC/. stands for what is in it, and what exists
    already is replaced. '-' is a tar archive on standard input or output.

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
    if kernel.container.state in ENDED:
        raise KernelNotRunning(
            "It has ended. Files that are not in its home, in /tmp or in its workspace are there "
            f"still: 'docker cp {kernel.container.name}:…'."
        ).about(kernel.kernel_id)
    check_runs(kernel)
    try:
        if source.kernel:
            return kernel, await _out(engine, kernel, source, destination.path)
        return kernel, await _in(engine, kernel, source, destination.path)
    except CopyFailed as exc:
        if destination.kernel:
            exc = CopyFailed(f"{exc}{_hint(kernel, str(exc))}")
        raise exc.about(kernel.kernel_id) from exc.__cause__
    except asyncio.CancelledError:
        if not has_said_that_it_ends():
            say_that_it_ends("Interrupted: nothing was copied.")
        raise


def _python(kernel: ListedKernel) -> str:
    return python_in(kernel.facts.identity.argv) if kernel.facts is not None else ""


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
            raise CopyFailed(_absent(kernel, source.path))
        is_directory = read.found == "directory"
        if to_stream:
            return await read.in_thread(lambda: pass_on(read, sys.stdout.buffer))
        path = Path(destination)
        found = "directory" if path.is_dir() else "file" if path.exists() else "absent"
        if found == "absent" and not path.parent.is_dir():
            found = "nowhere"
        top = _arrival(source, destination, found, is_directory=is_directory)
        root, made = path if found == "directory" else path.parent, Made()

        def write() -> Copied:
            try:
                copied = unpack(read.answer, root, top, is_directory=is_directory, made=made)
            except NoArchive:
                read.finish()  # it may say why
                raise
            read.finish()
            return copied

        try:
            return await read.in_thread(write)
        except asyncio.CancelledError:
            made.take_back()
            if made.replaced:
                files = "1 file" if made.replaced == 1 else f"{made.replaced} files"
                say_that_it_ends(f"Interrupted: {files} had been replaced, the others were not.")
            raise


def _hint(kernel: ListedKernel, said: str) -> str:
    """What the words of a `tar` that could not write do not say."""
    is_read_only = kernel.facts is not None and kernel.facts.read_only
    # On a read-only file system a file that is there cannot be removed first.
    if "Read-only file system" in said or (is_read_only and "File exists" in said):
        return f". That is read-only. The kernel can write to its home, {HOME}, and to /tmp."
    if is_read_only and ("No space left" in said or "Wrote only" in said):
        return (
            f". There is no room for all of it: {HOME} and /tmp hold {format_size(TMPFS_SIZE)} "
            "each, in the kernel's memory. What was copied of it is still there."
        )
    return ""


def _absent(kernel: ListedKernel, path: str) -> str:
    """That it is not there, where that was, and where what a kernel writes is."""
    where = f"in container {kernel.container.id[:12]}"
    facts = kernel.facts
    if facts is None or path.startswith("/"):
        return f"There is no {path!r} {where}."
    text = f"There is no {path!r} in {facts.cwd} {where}, where the kernel started."
    if facts.read_only and facts.cwd != HOME:
        is_workspace = [mount for mount in facts.mounts if mount.target == facts.cwd]
        if all(mount.read_only for mount in is_workspace):
            text += " It cannot write there."
    return (
        f"{text} Look in its home and in /tmp: '{kernel.short_id}:{HOME}/{path}', '…:/tmp/{path}'."
    )


async def _in(engine: Engine, kernel: ListedKernel, source: Place, destination: str) -> Copied:
    from_stream = source.path == STREAM
    if from_stream and sys.stdin.isatty():
        raise click.UsageError("'-' reads a tar archive from a file or a pipe, not a terminal.")
    path = Path(source.path)
    if not from_stream and not path.exists():
        raise CopyFailed(f"There is no {source.path!r} on this machine.")
    if not (from_stream or path.is_dir() or path.is_file()):
        raise CopyFailed(f"{source.path!r} is neither a file nor a directory.")
    container, python = kernel.container.id, _python(kernel)
    async with transfer(engine, container, WRITE, (destination, source.name), python) as write:
        if from_stream:
            if write.found != "directory":
                raise CopyFailed(f"There is no directory {destination!r} for an archive.")
            work, target = partial(send, write, sys.stdin.buffer), ""
        else:
            top = _arrival(source, destination, write.found, is_directory=path.is_dir())
            if not top and not path.is_dir():
                raise CopyFailed(f"{source.path!r} is not a directory.")
            work = partial(pack, path, top, write.execution.send)
            is_into = write.found == "directory"
            target = posixpath.join(destination, top) if is_into else destination
        try:
            return await write.in_thread(lambda: feed(write, work))
        except asyncio.CancelledError:
            if write.is_new and target:
                await take_back(engine, container, target, write, python)
            else:
                say_that_it_ends(f"Interrupted: {destination} of the kernel has a part of it.")
            raise
