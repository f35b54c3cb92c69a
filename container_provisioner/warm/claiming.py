"""A launch takes a warm container, if exactly the right one waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import labels
from ..connection import to_json
from ..creation import remove_quietly
from ..engine.base import ContainerInfo
from ..engine.calls import Engine
from ..errors import ContainerGone
from ..handle import KernelContainer
from ..naming import clear_name, under_name
from ..preparation import Preparation
from ..store import KernelDirectory, Offer, Offers, own_lease
from .specification import (
    CLAIM_SOCKET,
    SESSION_FILE,
    can_be_warm,
    of_session,
    specification_digest,
)

# A kernel that waits answers in milliseconds. One that hangs is not to cost more than a cold start.
ANSWER_SECONDS = 2.0


class WarmContainerLost(Exception):
    """It died, hangs, or somebody has removed it."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A container whose kernel is the caller's and listens."""

    container: KernelContainer
    info: ContainerInfo
    kernel_info: Mapping[str, Any]


async def claim(
    prepared: Preparation, engine: Engine, log: logging.Logger, undo: AsyncExitStack
) -> Claimed | None:
    """None when there is none, or none that works; the start is a cold one then.

    Asks the engine nothing unless a container waits. `undo` gets what removes the container.
    Raises `EngineError` and `KernelRuns` as a cold start does.
    """
    offers, kernel_id = Offers(), prepared.request.kernel_id
    if offers and can_be_warm(prepared):
        suitable = offers.all(specification_digest(prepared, engine.url))
        if suitable and prepared.directory.exists():
            await clear_name(engine, labels.container_name(kernel_id), kernel_id)
        for offer in suitable:
            if not offers.take(offer):
                continue  # another launch was faster
            async with AsyncExitStack() as attempt:
                try:
                    claimed = await _claim(prepared, offer, engine, log, attempt)
                except WarmContainerLost as exc:
                    log.debug("Kernel %s: container %s: %s", kernel_id, offer.name, exc)
                else:
                    undo.push_async_exit(attempt.pop_all())
                    return claimed
    if prepared.request.settings.warm_pool_size:
        log.debug("Kernel %s: no warm container waits for it; it starts cold.", kernel_id)
    return None


async def _claim(
    prepared: Preparation,
    offer: Offer,
    engine: Engine,
    log: logging.Logger,
    undo: AsyncExitStack,
) -> Claimed:
    kernel_id = prepared.request.kernel_id
    name = labels.container_name(kernel_id)
    waiting = KernelDirectory.of(offer.name)
    identity = prepared.identity(
        name=name, launch_id=offer.launch_id, container_id=offer.container_id
    )
    container = KernelContainer(engine=engine, log=log, identity=identity)
    undo.callback(waiting.remove)
    undo.callback(prepared.directory.remove)
    undo.push_async_callback(remove_quietly, container)

    async def rename() -> str:
        await engine.rename(offer.container_id, name)
        return offer.container_id

    renamed: asyncio.Task[str] | None = None
    try:
        renamed = asyncio.ensure_future(
            under_name(engine, name, rename, offer.launch_id, kernel_id)
        )
        await asyncio.sleep(0)  # the engine is at it while the files are written
        waiting.mark(own_lease().id, "starting")  # from here on it ends with this process
        prepared.directory.become(waiting)
        prepared.write_files()
        write_session(prepared)
        prepared.directory.keep_record(prepared.facts(engine, identity).as_label())
        container.watch()
        kernel_info = await _wake(waiting.sockets / CLAIM_SOCKET)
        await renamed
    except (FileNotFoundError, ContainerGone) as exc:
        raise WarmContainerLost(f"somebody has removed it ({exc})") from exc
    finally:
        if renamed is not None:
            await asyncio.wait([renamed])
            renamed.cancelled() or renamed.exception()  # one error is told, not two
    return Claimed(container=container, info=_info(offer, name), kernel_info=kernel_info)


def _info(offer: Offer, name: str) -> ContainerInfo:
    """What an inspection would say: it has answered, so it still runs."""
    return ContainerInfo(
        id=offer.container_id,
        name=name,
        state="running",
        labels={},
        started_at=offer.started_at,
        addresses=offer.addresses,
        published={inside: (ip, port) for inside, ip, port in offer.published},
    )


def write_session(prepared: Preparation) -> None:
    """What is the kernel's own, for `standby` to take over, now and after a restart in place."""
    info = to_json(prepared.request.connection_info)
    facts = {
        "environment": of_session(prepared.request.environment),
        "key": info.get("key", ""),
        "signature_scheme": info.get("signature_scheme", "hmac-sha256"),
    }
    prepared.directory.write(SESSION_FILE, json.dumps(facts), prepared.user)


def renew_session(prepared: Preparation) -> None:
    """Before a restart in place: if the container was a warm one, its kernel reads that again."""
    if (prepared.directory.path / SESSION_FILE).exists():
        write_session(prepared)


async def _wake(socket: Path) -> dict[str, Any]:
    """Tell the kernel that waits that it is somebody's, and wait until it is; returns the content
    of its kernel_info_reply."""
    try:
        answer = await asyncio.wait_for(_answer(socket), ANSWER_SECONDS)
    except asyncio.TimeoutError:
        raise WarmContainerLost(f"it does not answer within {ANSWER_SECONDS:g} s") from None
    except (OSError, ValueError) as exc:
        raise WarmContainerLost(f"it does not answer ({exc})") from exc
    if not answer:
        raise WarmContainerLost("it ended instead of answering")
    with contextlib.suppress(OSError):
        socket.unlink()
    return answer


async def _answer(socket: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        line = await reader.readline()  # 64 KiB at most
        answer = json.loads(line) if line else {}
    finally:
        writer.close()
    if not isinstance(answer, dict):
        raise ValueError("what it says is no kernel_info")
    return answer
