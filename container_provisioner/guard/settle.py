"""A dead owner's affairs: what was to end with it is removed, what is to be kept is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import labels
from ..adoptable import AdoptableKernel
from ..adoption import facts_beside, rebuild_record
from ..engine.base import RUNNING, ContainerInfo
from ..engine.calls import Engine
from ..engine.find import open_engine
from ..errors import ContainerGone, KernelNotAdoptable, NameTaken
from ..handle import end_container, remove_launch
from ..internal_network import leave_internal_network, remove_internal_network
from ..policy import INTERNAL, NOBODY, KernelUser
from ..store import KernelDirectory, Offers, Place, RecordStore

END_SECONDS = 2.5  # for a kernel that was told to end; jupyter_client waits as long

_DIRECTORY = re.compile(r"[0-9a-f]{12}")


@dataclass(kw_only=True)
class Settlement:
    """What was done, by kernel id."""

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


async def settle(
    owner: str, engines: list[str], records: RecordStore, place: Place, log: logging.Logger
) -> Settlement:
    """Do all that can be done for a dead `owner`; may be repeated.

    Raises `EngineError` when an engine does not do it; what it holds is left for another time.
    """
    done = Settlement()
    found_records, problems = records.read_all()
    for problem in problems:
        log.warning("%s", problem)
    await _all(
        _settle_record(owner, record, records, done, log)
        for record in found_records
        if record.get("owner") == owner
    )
    for url in engines:
        engine = await open_engine("auto", url)
        await _all(
            _settle_container(engine, found, owner, records, done, log)
            for found in await engine.list_containers({labels.PLACE: place.id})
            if owner_of(found) == owner
        )
        if done.removed:
            await leave_internal_network(engine, log)
    _remove_directories(place.root, owner, records)
    return done


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """At once, as far as the engine's threads go. One that fails keeps none of the others back."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _settle_record(
    owner: str,
    record: dict[str, Any],
    records: RecordStore,
    done: Settlement,
    log: logging.Logger,
) -> None:
    try:
        facts = AdoptableKernel.from_json(record)
    except KernelNotAdoptable as exc:
        log.warning("The record of kernel %s is of no use: %s", record.get("kernel_id"), exc)
        return
    kernel_id, identity = facts.identity.kernel_id, facts.identity
    engine = await open_engine("auto", facts.engine_url)
    _, phase = facts.directory.marked()
    if facts.on_server_exit == "keep" and await _goes_on(engine, facts, record, phase):
        done.kept.append(kernel_id)
        return
    await remove_launch(engine, identity.container_id, identity.launch_id)
    # Not before: it says where to look when the engine does not answer.
    await asyncio.to_thread(
        records.update, kernel_id, lambda now: None if now and now.get("owner") == owner else now
    )
    if (path := RecordStore.connection_file(record)) is not None:
        path.unlink(missing_ok=True)
    if phase != "starting":  # else it says so of a container that has no record yet
        _remove_directory(facts.directory, owner)
    done.removed.append(kernel_id)
    log.info("Kernel %s: its owner has died, it is removed.", kernel_id)


async def _goes_on(
    engine: Engine, facts: AdoptableKernel, record: dict[str, Any], phase: str
) -> bool:
    """Whether a kernel that may be kept is. A restart that its owner began is finished."""
    if phase in ("starting", "ending"):
        return False
    if phase == "running":
        return True  # if it has ended, then by itself: the next server says so
    try:
        found = await engine.inspect(facts.identity.container_id)
    except ContainerGone:
        return False
    is_aside = bool(labels.aside_owner(found.name))
    if is_aside and not phase:
        return False  # its successor was about to have a directory
    runs = found.state in RUNNING
    if phase == "restarting" and runs and found.started_at == record.get("started_at"):
        runs = False  # it was told to end
        await _end(engine, found.id)
    if is_aside:
        try:
            await engine.rename(found.id, facts.identity.container_name)
        except NameTaken:
            return True  # by a successor that never began; it is removed, and then comes this one
    if runs or not phase:
        return runs  # without a directory nobody can adopt it, but it is the user's to remove
    # In doubt, when its owner was "closing" it, a kept kernel is kept.
    facts.directory.open_sockets(KernelUser(NOBODY, NOBODY))
    await engine.start(found.id)
    facts.directory.mark(record["owner"], "running")
    return True


async def _end(engine: Engine, container_id: str) -> None:
    """As a manager does it: wait a little, then kill."""
    deadline = time.monotonic() + END_SECONDS
    while (await engine.inspect(container_id)).state in RUNNING:
        if time.monotonic() > deadline:
            await end_container(engine, container_id, signal.SIGKILL)
        await asyncio.sleep(0.1)


def owner_of(found: ContainerInfo) -> str:
    """Who answers for it. Of a warm container that is who keeps or has claimed it, and no label
    says so."""
    if owner := labels.aside_owner(found.name):
        return owner
    if labels.WARM in found.labels:
        owner, _ = KernelDirectory.of(found.labels.get(labels.KERNEL_ID, "")).marked()
        if owner or not labels.waits(found.name, found.labels):
            return owner
    return found.labels.get(labels.OWNER, "")


async def _settle_container(
    engine: Engine,
    found: ContainerInfo,
    owner: str,
    records: RecordStore,
    done: Settlement,
    log: logging.Logger,
) -> None:
    """One that its owner answers for, whatever the records say."""
    kernel_id = found.labels.get(labels.KERNEL_ID, "")
    with contextlib.suppress(KernelNotAdoptable):
        facts = facts_beside(found)
        kernel_id = facts.identity.kernel_id
        _, phase = KernelDirectory.of(kernel_id).marked()  # a successor's, if there is one
        is_aside = bool(labels.aside_owner(found.name))
        has_made_way = is_aside and phase not in ("closing", "restarting")
        with contextlib.suppress(KernelNotAdoptable, KeyError, TypeError):
            record = records.read(kernel_id)
            is_recorded = record["container"]["identity"]["container_id"] == found.id
            if is_recorded and not has_made_way:
                return  # settled by its record, or another owner's by now
        is_kept = facts.on_server_exit == "keep" and found.state in RUNNING
        if is_kept and not has_made_way and phase not in ("starting", "ending"):
            found = await engine.inspect(found.id)  # a list leaves out where it is reached
            await _restore_record(found, kernel_id, owner, records, done, log)
            return
    if labels.WARM in found.labels:
        Offers().withdraw(found.labels[labels.WARM], found.name)
    await engine.remove(found.id)
    if kernel_id and not labels.aside_owner(found.name):  # else it is its successor's by now
        _remove_directory(KernelDirectory.of(kernel_id), owner)
    done.removed.append(kernel_id or found.name)
    log.info("Container %s: its owner has died, it is removed.", found.name)


async def _restore_record(
    found: ContainerInfo,
    kernel_id: str,
    owner: str,
    records: RecordStore,
    done: Settlement,
    log: logging.Logger,
) -> None:
    try:
        record = rebuild_record(found)
    except KernelNotAdoptable as exc:
        log.warning("Kernel %s: %s", kernel_id, exc)
        return
    # One of the same owner is of an earlier container.
    await asyncio.to_thread(
        records.update, kernel_id, lambda now: now if now and now.get("owner") != owner else record
    )
    done.kept.append(kernel_id)
    log.info("Kernel %s: its lost record was rebuilt from its container.", kernel_id)


def _remove_directories(root: Path, owner: str, records: RecordStore) -> None:
    """Of launches that came to nothing."""
    entries = list(root.iterdir()) if root.is_dir() else []
    # Resolved: a claimed container's directory has the kernel's name as another one.
    recorded = {
        path.resolve().name for path in entries if (records.folder / f"{path.name}.json").exists()
    }
    for path in entries:
        if path.is_symlink() and not path.exists():
            path.unlink(missing_ok=True)
        elif path.name.startswith(".") and path.name.endswith(f"-{owner}"):
            KernelDirectory(path).remove()
        elif _DIRECTORY.fullmatch(path.name) and path.resolve().name not in recorded:
            _remove_directory(KernelDirectory(path), owner)


def _remove_directory(directory: KernelDirectory, owner: str) -> None:
    if directory.marked()[0] == owner:
        directory.remove()


async def remove_kept(record: dict[str, Any], records: RecordStore) -> None:
    """End a kept kernel and remove all of it. Raises `EngineError`, `KernelNotAdoptable`."""
    facts = AdoptableKernel.from_json(record)
    engine = await open_engine("auto", facts.engine_url)
    await remove_launch(engine, facts.identity.container_id, facts.identity.launch_id)
    records.forget(facts.identity.kernel_id)
    facts.directory.remove()
    if facts.network == INTERNAL:
        await remove_internal_network(engine)


async def running_containers(engine_url: str, place: Place) -> set[str]:
    """Ids of the place's containers that have not ended; one call."""
    engine = await open_engine("auto", engine_url)
    found = await engine.list_containers({labels.PLACE: place.id})
    return {item.id for item in found if item.state in RUNNING}
