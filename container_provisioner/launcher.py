"""From a request to a kernel that listens, in steps that each know how to be undone.

Start the container of before again, claim a warm one, or make a new one; in that order. Whatever
goes wrong in between, a cancelled caller included, nothing of it is left.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack

from . import labels
from .adoptable import RunningKernel
from .creation import create, remove_quietly, start, until_ready
from .definition import LaunchRequest
from .engine.base import ContainerInfo
from .engine.calls import Engine
from .errors import NetworkMissing
from .handle import KernelContainer
from .naming import clear_name
from .preparation import Preparation, prepare
from .stages import Reporter
from .store import KernelDirectory, own_lease
from .warm import claim, renew_session


async def launch(
    request: LaunchRequest,
    engine: Engine,
    log: logging.Logger,
    reporter: Reporter,
    predecessor: KernelContainer | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> RunningKernel:
    """Run the kernel and wait until it listens, or until it `is_wanted` no more.

    `reporter` is told the stages on the way; "ready" and "failed" are the caller's to tell.
    `predecessor` is the ended container of a restart: it is started again when it was made to an
    equal definition and ``restart_mode`` is ``in-place``, else removed. Raises the errors of this
    package; whatever was made is removed again, the predecessor too.
    """
    began = time.monotonic()
    reporter.know(image=request.settings.image)
    async with AsyncExitStack() as undo:
        if predecessor is not None:
            undo.callback(KernelDirectory.of(request.kernel_id).remove)
            undo.push_async_callback(remove_quietly, predecessor)
        prepared = await prepare(request, engine, log, reporter.pulling)
        reporter.know(image=prepared.root.title)
        for notice in prepared.notices:
            log.warning("Kernel %s: %s", request.kernel_id, notice)
        again, claimed = None, None
        if predecessor is not None:
            again = await _ready_again(prepared, predecessor, log)
        if again is None:
            claimed = await claim(prepared, engine, log, undo)
        if claimed is not None:
            container, info = claimed.container, claimed.info
            undo.callback(container.unfollow)
            reporter.know(start="warm")
            container.report_to(reporter)
        else:
            container, info = await _run(prepared, again, engine, log, undo, reporter, is_wanted)
        endpoint = request.transport.resolve(prepared.directory.sockets, info)
        if claimed is None:
            listening = request.transport.until_listening(endpoint)
            await until_ready(prepared, container, listening, is_wanted)
        prepared.directory.close_sockets()
        prepared.directory.mark(own_lease().id, "running")
        undo.pop_all()
    started_in = time.monotonic() - began
    log.info(
        "Kernel %s started in %scontainer %s (image %s, %s) in %.2f s",
        request.kernel_id,
        "warm " if claimed is not None else "",
        container.identity.container_id[:12],
        container.identity.image,
        endpoint.transport,
        started_in,
    )
    return RunningKernel(
        container=container,
        facts=prepared.facts(engine, container.identity),
        endpoint=endpoint,
        started_at=info.started_at,
        started_in=started_in,
        kernel_info=claimed.kernel_info if claimed is not None else None,
    )


async def _ready_again(
    prepared: Preparation, predecessor: KernelContainer, log: logging.Logger
) -> KernelContainer | None:
    """The predecessor, ready to be started; None when it has to be replaced, and is removed."""
    settings = prepared.request.settings
    same = (
        predecessor.identity.spec_digest == prepared.spec.digest()
        # Beside the record, too, where nobody writes it again (see `facts_beside`).
        and predecessor.identity.on_server_exit == settings.on_server_exit
    )
    in_place = settings.restart_mode == "in-place"
    has_ended = predecessor.status is not None and not predecessor.status.removed
    if in_place and same and has_ended:
        prepared.directory.mark(own_lease().id, "restarting")
        prepared.directory.open_sockets(prepared.user)
        prepared.write_files()
        renew_session(prepared)
        return predecessor
    if in_place and not same:
        log.info(
            "Kernel %s: its settings have changed; it restarts in a new container.",
            prepared.request.kernel_id,
        )
    await predecessor.remove()
    return None


async def _run(
    prepared: Preparation,
    predecessor: KernelContainer | None,
    engine: Engine,
    log: logging.Logger,
    undo: AsyncExitStack,
    reporter: Reporter,
    is_wanted: Callable[[], bool],
) -> tuple[KernelContainer, ContainerInfo]:
    """Start the predecessor, or a new container where there is none, or it has no network."""
    if predecessor is not None:
        reporter.know(start="in-place")
        try:
            return await _start(prepared, predecessor, undo, reporter, is_wanted)
        except NetworkMissing:
            # Removed while it had ended ('docker network prune' does that), and perhaps made
            # again: another network of that name is not the one that it was in.
            predecessor.reporter = None  # the run that is reported is not its
            await predecessor.remove()
    reporter.know(start="cold")
    reporter.tell("creating")
    container = await _create(prepared, engine, log, undo)
    return await _start(prepared, container, undo, reporter, is_wanted)


async def _start(
    prepared: Preparation,
    container: KernelContainer,
    undo: AsyncExitStack,
    reporter: Reporter,
    is_wanted: Callable[[], bool],
) -> tuple[KernelContainer, ContainerInfo]:
    undo.callback(container.unfollow)
    reporter.know(container_id=container.identity.container_id)
    reporter.tell("starting")
    container.reporter = reporter
    return container, await start(prepared, container, is_wanted)


async def _create(
    prepared: Preparation, engine: Engine, log: logging.Logger, undo: AsyncExitStack
) -> KernelContainer:
    kernel_id = prepared.request.kernel_id
    name = labels.container_name(kernel_id)
    if prepared.directory.exists():
        await clear_name(engine, name, kernel_id)
    undo.callback(prepared.directory.remove)
    prepared.create_directory()
    launch_id = uuid.uuid4().hex
    identity = prepared.identity(name=name, launch_id=launch_id)
    return await create(
        prepared,
        engine,
        log,
        undo,
        name=name,
        launch_id=launch_id,
        extra_labels={
            labels.SPEC: prepared.spec.digest(),
            labels.RECORD: prepared.facts(engine, identity).as_label(),
        },
    )
