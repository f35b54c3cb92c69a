"""A container that did not exist, and that runs: the steps that a cold start and a pool share.

Whatever goes wrong in between, a cancelled caller included, nothing of it is left: each step
registers its inverse, and the removal of the container is registered before it is created. Removing
nothing is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from . import labels
from .command import PRIVATE_DIR, SOCKETS_DIR
from .engine.base import ContainerInfo
from .engine.calls import Engine, to_the_end
from .environment import HOME
from .errors import (
    CommandMissing,
    ConfigurationError,
    EngineError,
    ImageMissing,
    KernelDied,
    NetworkMissing,
    StartTimeout,
)
from .handle import KernelContainer, remove_launch
from .host_environment import home_archive
from .internal_network import ensure_internal_network, leave_internal_network
from .naming import under_name
from .policy import INTERNAL
from .preparation import Preparation
from .root import import_host_image
from .store import own_lease, place_id

IPC_HINT = " A kernel that cannot speak ipc (many that are not Python) needs transport='tcp'."
# Of the image of empty directories: 'prune' removes it whenever no container uses it.
_IMPORTS = 5
# At whether anybody still wants the kernel, and at the clock. What is waited for wakes us itself.
_GLANCE_SECONDS = 0.1


async def create(
    prepared: Preparation,
    engine: Engine,
    log: logging.Logger,
    undo: AsyncExitStack,
    *,
    name: str,
    launch_id: str,
    extra_labels: Mapping[str, str],
) -> KernelContainer:
    """Make the container. The private directory is there, with its files."""
    request, settings = prepared.request, prepared.request.settings
    spec = replace(
        prepared.spec,
        name=name,
        labels={
            **labels.kernel_labels(
                kernel_id=request.kernel_id,
                launch_id=launch_id,
                kernel_name=request.kernel_name,
                uid=os.getuid(),
                owner=own_lease().id,
                place=place_id(),
                on_server_exit=settings.on_server_exit,
            ),
            **extra_labels,
            **(settings.topology.own.project_labels if settings.topology.own else {}),
        },
    )
    if settings.network == INTERNAL:
        undo.push_async_callback(leave_internal_network, engine, log)
        await ensure_internal_network(engine)
    undo.push_async_callback(_quietly, partial(remove_launch, engine, name, launch_id), name, log)

    async def make() -> str:
        for _ in range(_IMPORTS):
            try:
                return await engine.create(spec)
            except ImageMissing:
                if not prepared.root.is_host:
                    raise
                await import_host_image(engine)  # somebody has removed it since it was seen
            except NetworkMissing:  # Podman looks for it now, Docker at the start
                if settings.network != INTERNAL:
                    raise
                await ensure_internal_network(engine)
        return await engine.create(spec)

    container_id = await under_name(engine, name, make, launch_id, request.kernel_id)
    if not any(tmpfs.target == HOME for tmpfs in spec.tmpfs):
        await engine.upload(container_id, "/", home_archive(prepared.user))
    identity = prepared.identity(name=name, launch_id=launch_id, container_id=container_id)
    return KernelContainer(engine=engine, log=log, identity=identity)


async def start(
    prepared: Preparation,
    container: KernelContainer,
    is_wanted: Callable[[], bool] = lambda: True,
) -> ContainerInfo:
    """Run it. Raises `KernelDied` when it has ended by the time one looks, with its own words.

    Where a place is to be found for it first, waits for that, until it `is_wanted` no more.
    """
    engine, container_id = container.engine, container.identity.container_id
    if PRIVATE_DIR in prepared.spec.volumes:
        await engine.upload(container_id, PRIVATE_DIR, prepared.archive())
    try:
        try:
            await engine.start(container_id)
        except NetworkMissing:
            if prepared.request.settings.network != INTERNAL:
                raise
            await ensure_internal_network(engine)  # it has gone with somebody's last kernel
            await engine.start(container_id)
    except CommandMissing as exc:
        wrapped = exc.command == "/bin/sh" and prepared.spec.argv != prepared.root.argv
        note = (
            "It is needed to hand over the kernelspec's env, KERNEL_* and env_passthrough without "
            "showing them in 'docker inspect'. "
        )
        error = CommandMissing(exc.command, prepared.root.title)
        raise ConfigurationError(f"{error} {note}") if wrapped else error from exc
    info = await container.follow()
    if info is not None and info.state == "created":
        info = await _placed(prepared, container, info, is_wanted)
    if info is None or container.status is not None:
        raise await _death(container)
    return info


async def _placed(
    prepared: Preparation,
    container: KernelContainer,
    info: ContainerInfo | None,
    is_wanted: Callable[[], bool],
) -> ContainerInfo | None:
    """Wait until a swarm has found a node for it that takes it, and the node has the image.

    Raises `StartTimeout` with what it waits for.
    """
    settings, began = prepared.request.settings, time.monotonic()
    refusal = ""
    while info is not None and info.state == "created":
        if info.is_refused:
            refusal = f" One refused it: {info.error}."
            container.log.warning(
                "Kernel %s: %s. It goes to another node.", container.identity.kernel_id, info.error
            )
            await container.engine.start(container.identity.container_id)
        # It says why when it finds no node. Else a node may be at the image.
        allowed = settings.start_timeout if info.error else settings.pull_timeout
        if time.monotonic() - began > allowed:
            why = info.error or "it may still be at the image, which each node pulls for itself"
            raise StartTimeout(
                f"No node of the swarm ran the kernel within {allowed:g} s: {why}.{refusal} "
                f"Service {info.name}, image {container.identity.image}. It was removed. "
                "'docker node ls' and 'docker service ps' show what there is."
            )
        if not is_wanted():
            raise KernelDied("The kernel was shut down while it started.")
        await asyncio.sleep(_GLANCE_SECONDS)
        info = await container.look()
    return info


async def until_ready(
    prepared: Preparation,
    container: KernelContainer,
    ready: Coroutine[Any, Any, None],
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Wait until the started container is `ready`, or until it `is_wanted` no more.

    Raises `KernelDied`, with what it said last, and `StartTimeout`.
    """
    deadline = time.monotonic() + prepared.request.settings.start_timeout
    becomes_ready = asyncio.ensure_future(ready)
    ends = asyncio.ensure_future(container.wait())
    tasks = (becomes_ready, ends)
    try:
        while is_wanted():
            await asyncio.wait(tasks, timeout=_GLANCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if becomes_ready.done():
                return becomes_ready.result()
            if ends.done():
                raise await _death(container)
            if time.monotonic() > deadline:
                raise StartTimeout(await _explain_timeout(prepared, container))
        raise KernelDied("The kernel was shut down while it started.")
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _death(container: KernelContainer) -> KernelDied:
    explanation = await container.explain(await container.wait(), starting=True)
    hint = IPC_HINT if SOCKETS_DIR in explanation else ""  # it fails to make sense of it
    return KernelDied(f"The kernel died while it started: {explanation}{hint}")


async def _explain_timeout(prepared: Preparation, container: KernelContainer) -> str:
    settings = prepared.request.settings
    tail = await container.last_words()
    hint = IPC_HINT if settings.transport == "ipc" else ""
    return (
        f"The kernel opened no channels within {settings.start_timeout:g} s (start_timeout) and "
        f"was removed. Container {container.identity.container_id[:12]}, image "
        f"{container.identity.image}.{hint}" + (f" Last output: {tail}" if tail else "")
    )


async def remove_quietly(container: KernelContainer) -> None:
    """For an undo: to the end, whoever cancels, and an engine that does not do it is reported."""
    await _quietly(container.remove, container.identity.container_name, container.log)


async def _quietly(
    remove: Callable[[], Coroutine[Any, Any, None]], name: str, log: logging.Logger
) -> None:
    try:
        await to_the_end(asyncio.ensure_future(remove()))
    except EngineError as exc:
        log.warning("Container %s may be left behind: %s", name, exc)
