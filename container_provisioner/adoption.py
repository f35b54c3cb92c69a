"""A running kernel is taken over when its owner has died, and it certainly is that kernel.

Its container has to carry our labels; its record (or, when that is lost, the container's labels and
its private directory) has to name that very container; and it has to answer to the key. Anything
else is refused with one error, and nothing is changed or removed then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass, replace
from typing import Any

from . import labels
from .adoptable import AdoptableKernel, RunningKernel
from .command import CONNECTION_NAME
from .connection import CREDENTIALS, from_json
from .engine.base import RUNNING, ContainerInfo
from .engine.calls import Engine
from .errors import ContainerGone, KernelNotAdoptable
from .greeting import greet
from .handle import ContainerIdentity, KernelContainer
from .store import KernelDirectory, RecordStore, lease_facts, lease_is_held, own_lease, place_id


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A kernel taken over."""

    kernel: RunningKernel
    connection_info: dict[str, Any]
    is_busy: bool = False
    notice: str = ""  # what the user has to know


async def find_running(engine: Engine, kernel_id: str) -> ContainerInfo | None:
    """The kernel's container if it has not ended."""
    try:
        found = await engine.inspect(labels.container_name(kernel_id))
    except ContainerGone:
        return None
    return found if found.state in RUNNING else None


async def adopt(
    kernel_id: str, engine: Engine, records: RecordStore, log: logging.Logger
) -> Adopted:
    """Take over the kernel's running container. Raises `KernelNotAdoptable`, `EngineError`."""
    found = await find_running(engine, kernel_id)
    if found is None:
        raise KernelNotAdoptable("No container of this kernel runs.")
    await _check_labels(engine, found, kernel_id)
    claim = _Claim(kernel_id, found)
    await asyncio.to_thread(records.update, kernel_id, claim.stake)
    try:
        return await _take_over(claim, engine, log)
    except BaseException:
        await asyncio.to_thread(records.update, kernel_id, claim.withdraw)
        raise


async def _check_labels(engine: Engine, found: ContainerInfo, kernel_id: str) -> None:
    expected = {labels.OWNER_UID: str(os.getuid()), labels.PLACE: place_id()}
    is_the_kernels = labels.is_of_kernel(found.name, found.labels, kernel_id)
    if not (is_the_kernels and expected.items() <= found.labels.items()):
        raise KernelNotAdoptable(
            f"Container {found.id[:12]} belongs to another user, or to a Jupyter with another "
            "runtime directory. Nothing was changed."
        )
    candidates = {found.id} | {
        item.id
        for item in await engine.list_containers({labels.KERNEL_ID: kernel_id})
        if item.state in RUNNING
    }
    if len(candidates) > 1:
        ids = ", ".join(sorted(container_id[:12] for container_id in candidates))
        raise KernelNotAdoptable(
            f"Several containers say that they are kernel {kernel_id}: {ids}. Nothing was "
            "changed; remove those that are not."
        )


class _Claim:
    """The record, judged and changed while nobody else can: see `RecordStore.update`."""

    def __init__(self, kernel_id: str, found: ContainerInfo) -> None:
        self.kernel_id, self.found = kernel_id, found
        self.record: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None

    def stake(self, record: dict[str, Any] | None) -> dict[str, Any]:
        self._before = record
        self.record = record if record is not None else rebuild_record(self.found)
        self.facts = AdoptableKernel.from_json(self.record)
        self._check_owner()
        identity = self.facts.identity
        if (identity.container_id, identity.container_name, identity.launch_id) != (
            self.found.id,
            self.found.name,
            self.found.labels.get(labels.LAUNCH_ID),
        ):
            raise KernelNotAdoptable(
                f"Container {self.found.id[:12]} is not the one in the kernel's record "
                f"({identity.container_id[:12]}). Nothing was changed."
            )
        if self.facts.directory.marked()[1] == "starting":
            raise KernelNotAdoptable("Its start was never finished. Nothing was changed.")
        self.connection_info = from_json(self.record.get("connection_info"))
        own, recorded = _kernels_own(self.facts), self.record["connection_info"]
        if any(own.get(name) != recorded.get(name) for name in CREDENTIALS):
            raise KernelNotAdoptable(
                "The record's key is not the one that the kernel was given. Nothing was changed."
            )
        return {**self.record, "owner": own_lease().id}

    def withdraw(self, record: dict[str, Any] | None) -> dict[str, Any] | None:
        return self._before

    def _check_owner(self) -> None:
        owner = str(self.record.get("owner", ""))
        if owner == own_lease().id or not owner or not lease_is_held(owner):
            return
        facts = lease_facts(owner)
        raise KernelNotAdoptable(
            f"The kernel in container {self.found.id[:12]} belongs to process {facts.get('pid')} "
            f"({facts.get('program')}), which still runs. Nothing was changed; shut the kernel "
            "down there first."
        )


async def _take_over(claim: _Claim, engine: Engine, log: logging.Logger) -> Adopted:
    facts, found = replace(claim.facts, engine_url=engine.url), claim.found
    endpoint = facts.channels().resolve(facts.directory.sockets, found)  # ports may have changed
    connection_info = {**claim.connection_info, **endpoint.as_fields()}
    kernel_info, is_busy, notice = None, False, ""
    if found.state == "paused":
        notice = "It is paused, and answers when it is resumed ('docker unpause')."
    else:
        greeting = await greet(connection_info)
        kernel_info, is_busy = greeting.kernel_info, greeting.is_busy
        if not greeting.beats:
            raise KernelNotAdoptable(
                f"The kernel in container {found.id[:12]} answers neither a signed request nor a "
                "heartbeat. Nothing was changed."
            )
        if kernel_info is None:
            notice = "It is too busy to say more than that it lives."
    recorded = claim.record.get("started_at")
    if recorded and recorded != found.started_at:
        notice = "Its container was restarted meanwhile: the kernel is new, its variables are gone."
    container = KernelContainer(engine=engine, identity=facts.identity, log=log)
    await container.follow()
    facts.directory.mark(own_lease().id, "running")
    facts.directory.close_sockets()
    return Adopted(
        kernel=RunningKernel(
            container=container,
            facts=facts,
            endpoint=endpoint,
            started_at=found.started_at,
            kernel_info=kernel_info,
        ),
        connection_info=connection_info,
        is_busy=is_busy,
        notice=notice,
    )


def facts_beside(found: ContainerInfo) -> AdoptableKernel:
    """What its launch wrote down beside the record: in a label, or, of a container that had its
    labels before it was anybody's, in the private directory.

    Raises `KernelNotAdoptable` when there is nothing, or nothing that makes sense.
    """
    text = found.labels.get(labels.RECORD, "")
    if labels.WARM in found.labels:
        text = KernelDirectory.of(found.labels.get(labels.KERNEL_ID, "")).kept_record()
    return AdoptableKernel.from_label(text, found.id)


def rebuild_record(found: ContainerInfo) -> dict[str, Any]:
    """A lost record, from the container's labels and the kernel's own connection file.

    Raises `KernelNotAdoptable` when either is missing; then nobody can have the key.
    """
    facts = facts_beside(found)
    info = _kernels_own(facts)
    if not info:
        raise KernelNotAdoptable(
            f"The record of container {found.id[:12]} is lost, and so is the private directory "
            f"{facts.directory.path} with its key. Nothing was changed; the container can only be "
            "removed."
        )
    endpoint = facts.channels().resolve(facts.directory.sockets, found)
    return {
        "kernel_id": facts.identity.kernel_id,
        "connection_info": {**info, **endpoint.as_fields()},
        "container": facts.as_json(),
        "owner": facts.directory.marked()[0],
    }


def _kernels_own(facts: AdoptableKernel) -> dict[str, Any]:
    """The connection file that the kernel itself was given; empty when there is none."""
    try:
        path = facts.directory.path / CONNECTION_NAME
        info = json.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


async def check_identity(engine: Engine, identity: ContainerIdentity) -> None:
    """Raises `KernelNotAdoptable` when that container is there and not the one described."""
    try:
        found = await engine.inspect(identity.container_id)
    except ContainerGone:
        return
    is_the_kernels = labels.is_of_kernel(found.name, found.labels, identity.kernel_id)
    launch_id = found.labels.get(labels.LAUNCH_ID)
    if not is_the_kernels or (found.id, launch_id) != (identity.container_id, identity.launch_id):
        raise KernelNotAdoptable(
            f"Container {identity.container_id[:12]} is not that of kernel "
            f"{identity.kernel_id}. Nothing was changed."
        )
