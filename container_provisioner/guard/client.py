"""Ask the guard something; start it when it is not there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ContainerProvisionerError
from ..store import private_root, short_name, state_folder

START_SECONDS = 20.0  # for the guard to start; it takes a tenth of a second
ANSWER_SECONDS = 60.0  # for an answer; one may wait for the engine to remove containers

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from container_provisioner.guard.process import main; main()"
)


class GuardUnavailable(ContainerProvisionerError):
    """The guard does not run and cannot be started."""


@dataclass(frozen=True, kw_only=True)
class Missed:
    """What a kernel said while nobody listened: channel and raw frames, in order."""

    messages: list[tuple[str, list[bytes]]]
    dropped: int  # messages before the first of these, for want of room


def socket_path() -> Path:
    """Named for the state folder: the private root may be shared by several."""
    return private_root() / f"guard-{short_name(str(state_folder()))}.sock"


def listening_guard() -> int | None:
    """Which guard listens, as a number that is another one's for the next; None when none does.

    Costs some microseconds: nothing is asked.
    """
    path = socket_path()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # so many are asking it
            probe.connect(str(path))
        return path.stat().st_ino
    return None


async def ask_guard(do: str, *, start: bool = True, **facts: Any) -> dict[str, Any]:
    """The guard's answer. Starts it when it is not there, unless told not to.

    Raises `GuardUnavailable`, with what it said when it could not start.
    """
    request = json.dumps({"do": do, **facts}).encode("ascii") + b"\n"
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = await asyncio.wait_for(_ask(request), ANSWER_SECONDS)
        except asyncio.TimeoutError as exc:  # before OSError, which it is one of since 3.11
            raise GuardUnavailable(
                f"The guard does not answer within {ANSWER_SECONDS:g} s."
            ) from exc
        except (OSError, ValueError) as exc:  # not there, ending just now, or it has died
            if not start:
                raise GuardUnavailable(f"No guard runs: {exc}.") from exc
            if time.monotonic() > deadline:
                raise GuardUnavailable(f"The guard does not answer: {exc}.") from exc
            await asyncio.to_thread(_start)
        else:
            if "error" in answer:
                raise GuardUnavailable(f"The guard: {answer['error']}")
            return answer


async def take_missed(kernel_id: str) -> Missed:
    """What was recorded for the kernel. It is forgotten, and recording ends until its owner dies.

    Empty when no guard runs.
    """
    try:
        answer = await ask_guard("take", kernel=kernel_id, start=False)
    except GuardUnavailable:
        return Missed(messages=[], dropped=0)
    messages = [
        (channel, [base64.b64decode(frame) for frame in frames])
        for channel, frames in answer["messages"]
    ]
    return Missed(messages=messages, dropped=answer["dropped"])


async def _ask(request: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(socket_path()))
    try:
        writer.write(request)
        await writer.drain()
        answer: dict[str, Any] = json.loads(await reader.read())
        return answer
    finally:
        writer.close()


def _start() -> None:
    """Returns when a guard listens, this one or another that was faster."""
    if not sys.executable:
        raise GuardUnavailable("There is no Python interpreter to run the guard with.")
    path = [folder or str(Path.cwd()) for folder in sys.path]
    try:
        started = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _BOOT, json.dumps(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",  # it is not to keep a folder of the user's busy
            start_new_session=True,  # a signal to the server's process group does not reach it
            timeout=START_SECONDS,
            check=False,
            env=os.environ,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise GuardUnavailable(f"The guard could not be started: {exc}") from exc
    if started.returncode != 0:
        words = started.stderr.decode(errors="replace").strip().splitlines()
        raise GuardUnavailable(f"The guard could not be started: {words[-1] if words else '?'}")
