"""Single files into a sandbox's container and out of it."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..adoptable import AdoptableKernel
from ..command import python_in
from ..copying.packing import pack, pack_bytes
from ..copying.streams import feed
from ..copying.transfer import READ, WRITE, transfer
from ..copying.unpacking import read_file
from ..engine.find import open_engine
from ..environment import HOME
from ..errors import CopyFailed

T = TypeVar("T")


async def put(kernel: AdoptableKernel, path: str, content: bytes | Path, timeout: float) -> None:
    """Raises `CopyFailed`, `EngineError`."""
    if isinstance(content, Path) and not (content.is_file() or content.is_dir()):
        raise CopyFailed(f"{str(content)!r} is neither a file nor a directory of this machine.")
    try:
        await _in_time(_put(kernel, path, content), timeout, path)
    except CopyFailed as exc:
        if "Read-only file system" in str(exc):
            raise CopyFailed(f"{exc}. Code can write to its home, {HOME}, and to /tmp.") from exc
        raise


async def _put(kernel: AdoptableKernel, path: str, content: bytes | Path) -> None:
    engine = await open_engine("auto", kernel.engine_url)
    container, python = kernel.identity.container_id, python_in(kernel.identity.argv)
    name = posixpath.basename(path)
    if name in ("", ".", ".."):
        raise CopyFailed(f"{path!r} does not say what the file is to be called.")
    async with transfer(engine, container, WRITE, (path, name), python) as write:
        if write.found == "nowhere":
            raise CopyFailed(f"There is no directory for {path!r} in the sandbox.")
        if write.found == "directory":
            raise CopyFailed(f"{path!r} is a directory in the sandbox.")
        send = write.execution.send
        if isinstance(content, Path):
            work = partial(pack, content, name, send)
        else:
            work = partial(pack_bytes, content, name, send)
        await write.in_thread(lambda: feed(write, work))


async def get(kernel: AdoptableKernel, path: str, limit: int, timeout: float) -> bytes:
    """Raises `CopyFailed`, `EngineError`."""
    return await _in_time(_get(kernel, path, limit), timeout, path)


async def _get(kernel: AdoptableKernel, path: str, limit: int) -> bytes:
    engine = await open_engine("auto", kernel.engine_url)
    container, python = kernel.identity.container_id, python_in(kernel.identity.argv)
    async with transfer(engine, container, READ, (path, "whole"), python) as read:
        if read.found != "file":
            what = "is a directory" if read.found == "directory" else "does not exist"
            raise CopyFailed(f"{path!r} {what} in the sandbox.")

        def work() -> bytes:
            content = read_file(read.answer, limit)
            if content is None:
                raise CopyFailed(f"{path!r} in the sandbox is not a regular file.")
            read.finish()
            return content

        return await read.in_thread(work)


async def _in_time(work: Coroutine[Any, Any, T], timeout: float, path: str) -> T:
    # Code in the sandbox may hold up the command that copies.
    try:
        return await asyncio.wait_for(work, timeout)
    except asyncio.TimeoutError as exc:
        raise CopyFailed(f"{path!r} was not copied within {timeout:g} s.") from exc
