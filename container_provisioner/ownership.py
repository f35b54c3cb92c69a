"""Whose a kernel is: written in its record, watched by the guard."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import KernelNotAdoptable
from .guard import GuardUnavailable, ask_guard, listening_guard
from .store import RecordStore, lease_is_held, own_lease

_to_be_removed: set[str] = set()  # kernels of this process that are not to outlive it
os.register_at_fork(after_in_child=_to_be_removed.clear)


@atexit.register
def _leave() -> None:
    """A process that ends as it should waits for the removal of what it did not shut down.

    The guard does that anyway; but a machine or a container may end with this process.
    """
    if _to_be_removed:
        lease = own_lease()
        lease.release()
        with contextlib.suppress(GuardUnavailable):
            asyncio.run(ask_guard("settle", owner=lease.id, start=False))


@dataclass(kw_only=True)
class Ownership:
    """This process's hold on one kernel. When the guard cannot be reached, it warns and goes on."""

    kernel_id: str
    log: logging.Logger
    records: RecordStore = field(default_factory=RecordStore)

    @property
    def is_recorded(self) -> bool:
        return self.records.path(self.kernel_id).exists()

    async def guard(self, engine_url: str) -> None:
        await have_guarded(engine_url, self.log, f"Kernel {self.kernel_id}")

    async def record(self, info: Mapping[str, Any], *, keep: bool) -> None:
        """Write the record: the kernel is this process's. `keep`: it may outlive this process."""
        self.records.write(self.kernel_id, {**info, "owner": own_lease().id})
        if keep:
            await self._tell("keep", kernel=self.kernel_id)
        else:
            _to_be_removed.add(self.kernel_id)

    async def release(self, info: Mapping[str, Any]) -> None:
        """Let go of it: another process may adopt it."""
        self.records.write(self.kernel_id, {**info, "owner": ""})
        await self._tell("release", kernel=self.kernel_id)

    def forget(self) -> None:
        """Remove its record, and the connection file that its first manager wrote."""
        self.records.forget(self.kernel_id)
        _to_be_removed.discard(self.kernel_id)

    async def settle_predecessor(self) -> None:
        """What its dead owner left half done is the guard's to finish first."""
        with contextlib.suppress(KernelNotAdoptable):
            owner = self.records.read(self.kernel_id).get("owner")
            if owner and owner != own_lease().id:
                await self._tell("settle", owner=owner)

    async def succeed(self, engine_url: str) -> None:
        """Be the owner in the record too, if the last one has died."""

        def change(record: dict[str, Any] | None) -> dict[str, Any] | None:
            if record is None or lease_is_held(str(record.get("owner", ""))):
                return record
            return {**record, "owner": own_lease().id}

        await self.guard(engine_url)
        await asyncio.to_thread(self.records.update, self.kernel_id, change)
        await self._tell("keep", kernel=self.kernel_id)

    async def _tell(self, do: str, **facts: Any) -> None:
        await _tell_guard(self.log, f"Kernel {self.kernel_id}", do, **facts)


async def have_guarded(engine_url: str, log: logging.Logger, what: str) -> None:
    """Have the containers of this process removed, on this engine, when it dies."""
    lease = own_lease()
    lease.uses(engine_url)
    if (lease.id, listening_guard()) in _told:
        return
    if await _tell_guard(log, what, "guard", owner=lease.id):
        # Another guard may have taken its place by now: that knows the lease, too.
        _told.add((lease.id, listening_guard()))


_told: set[tuple[str, int | None]] = set()  # leases of this process, and the guards that know them


async def _tell_guard(log: logging.Logger, what: str, do: str, **facts: Any) -> bool:
    try:
        await ask_guard(do, **facts)
    except GuardUnavailable as exc:
        log.warning(
            "%s: %s Should this process be killed, its containers stay until the next one starts "
            "a kernel.",
            what,
            exc,
        )
        return False
    return True
