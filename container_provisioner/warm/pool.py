"""Keeps warm containers: makes them one at a time, and removes what nobody should have any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from .. import labels
from ..creation import create, start, until_ready
from ..definition import LaunchRequest
from ..engine.calls import Engine
from ..errors import (
    ConfigurationError,
    ContainerProvisionerError,
    EngineError,
    EngineUnavailable,
)
from ..handle import KernelContainer
from ..internal_network import leave_internal_network
from ..ownership import have_guarded
from ..preparation import prepare
from ..store import KernelDirectory, Offer, Offers, own_lease
from ..transports.ipc import until_sockets
from .specification import (
    CLAIM_SOCKET,
    STANDBY,
    as_template,
    can_be_warm,
    specification_digest,
    standby_source,
    waiting_spec,
)

LOOK_SECONDS = 0.5  # at the offers, which are files; the engine is not asked
CHECK_SECONDS = 15.0  # whether image, packages and folder still are what was warmed
ANSWER_SECONDS = 1.0  # after a claim: the claimed kernel comes first
STUCK_SECONDS = 10.0  # a claim takes milliseconds; what was taken and not marked is nobody's
RETRY_SECONDS = (10.0, 300.0)  # after a container that did not get warm; doubled up to the second

EXPECTED_MEMORY = 48 * 1024**2  # bytes, of the first; the others' are measured

CANNOT_WAIT = (
    "Only kernels that are started by 'python -m ipykernel_launcher' can wait, and only without "
    "transport_encryption."
)


@dataclass
class _Wanted:
    """One specification, and how many of it are to wait."""

    request: LaunchRequest
    engine: Engine
    lasting: bool
    used: float  # when a launch asked for it
    digest: str = ""  # empty while it cannot be made
    checked: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    is_full: bool = False


@dataclass
class _Member:
    """One container of this keeper's."""

    offer: Offer
    container: KernelContainer
    missed: float = 0.0  # when its offer was first seen to be gone


class WarmPool:
    """One keeper. Several share what waits: each sees the others' containers and counts them.

    `limit` and `memory_limit` (bytes) bound all that waits in the runtime directory; `max_age` is
    the seconds after which a container is replaced, and after which a specification that was only
    learned from launches is forgotten. `on_full` is called with a kernelspec's name and a number
    whenever as many containers wait as were asked for, `on_failure` whenever one cannot be had; the
    log does not warn of what it returns True for.
    """

    def __init__(
        self,
        log: logging.Logger,
        *,
        limit: int,
        memory_limit: int,
        max_age: float,
        on_full: Callable[[str, int], None] = lambda name, size: None,
        on_failure: Callable[[ContainerProvisionerError], bool | None] = lambda exc: None,
    ) -> None:
        self.log = log
        self.limit, self.memory_limit, self.max_age = limit, memory_limit, max_age
        self.on_full, self.on_failure = on_full, on_failure
        self._offers = Offers()
        self._wanted: dict[str, _Wanted] = {}
        self._members: list[_Member] = []
        self._last_claim = -ANSWER_SECONDS
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def want(self, request: LaunchRequest, engine: Engine, *, lasting: bool = False) -> None:
        """Keep as many containers for launches like this one as its ``warm_pool_size`` says.

        `lasting`: until the pool is closed, not only while such launches come.
        """
        if self._closed:
            return
        now = time.monotonic()
        wanted = _Wanted(as_template(request), engine, lasting, now)
        known = self._wanted.setdefault(_key(wanted.request), wanted)
        known.used, known.lasting = now, known.lasting or lasting
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def sizes(self) -> dict[str, tuple[int, int]]:
        """By kernelspec: how many of this keeper's containers wait, and how many are wanted."""
        waiting = Counter(m.offer.digest for m in self._members if self._offers.has(m.offer))
        sizes: dict[str, tuple[int, int]] = {}
        for wanted in self._wanted.values():
            name, size = wanted.request.kernel_name, wanted.request.settings.warm_pool_size
            has, wants = sizes.get(name, (0, 0))
            sizes[name] = (has + waiting.pop(wanted.digest, 0), wants + size)
        return sizes

    async def close(self) -> None:
        """Remove every container of this keeper's that nobody has claimed."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*(self._retire(member) for member in list(self._members)))

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                self.log.exception("Warm pool: this was not foreseen; it goes on.")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        for member in list(self._members):
            await self._look_at(member, time.monotonic())
        for wanted in self._by_use():
            if time.monotonic() - wanted.checked > CHECK_SECONDS or not wanted.checked:
                await self._check(wanted)
        self._forget_unused()
        current = {wanted.digest for wanted in self._wanted.values()}
        for member in list(self._members):
            if member.offer.digest not in current:
                await self._retire(member)
        if time.monotonic() - self._last_claim >= ANSWER_SECONDS:
            await self._refill()

    # -- what waits -------------------------------------------------------------------------

    async def _look_at(self, member: _Member, now: float) -> None:
        if not self._offers.has(member.offer):  # taken; as a kernel it may have ended already
            if KernelDirectory.of(member.offer.name).marked() != (own_lease().id, "warm"):
                self._drop(member)  # it is a kernel now
                self._last_claim = now
            elif not member.missed:
                member.missed = now
            elif now - member.missed > STUCK_SECONDS:
                await self._remove(member)  # who took it died in the very moment
        elif member.container.status is not None:
            self.log.warning("Warm pool: container %s has ended.", member.offer.name)
            await self._retire(member)
        elif time.time() - member.offer.since > self.max_age:
            await self._retire(member)

    async def _retire(self, member: _Member) -> None:
        """Remove it, unless a launch has it."""
        if self._offers.take(member.offer):
            await self._remove(member)

    async def _remove(self, member: _Member) -> None:
        self._drop(member)
        try:
            await member.container.remove()
        except EngineError as exc:  # then the guard does it, when this process ends
            self.log.warning("Warm pool: container %s stays: %s", member.offer.name, exc)
        else:
            KernelDirectory.of(member.offer.name).remove()
        if labels.INTERNAL_NETWORK in member.offer.addresses:
            await leave_internal_network(member.container.engine, self.log)

    def _drop(self, member: _Member) -> None:
        member.container.unfollow()
        self._members.remove(member)

    # -- what is wanted ---------------------------------------------------------------------

    def _by_use(self) -> list[_Wanted]:
        return sorted(self._wanted.values(), key=lambda wanted: wanted.used, reverse=True)

    async def _check(self, wanted: _Wanted) -> None:
        """What a launch would be now: the image may be another one under its name."""
        wanted.checked, known, wanted.digest = time.monotonic(), wanted.digest, ""
        try:
            prepared = await prepare(wanted.request, wanted.engine, self.log)
        except ContainerProvisionerError as exc:
            if isinstance(exc, EngineUnavailable):
                wanted.digest = known  # unknown is not changed
            self._put_off(wanted, exc)
            return
        if can_be_warm(prepared):
            wanted.digest = specification_digest(prepared, wanted.engine.url)
        else:
            self._put_off(wanted, ConfigurationError(CANNOT_WAIT))

    def _forget_unused(self) -> None:
        """What no launch asks for any more, and what comes to the same as another request."""
        digests, learned = set(), 0
        for wanted in sorted(self._by_use(), key=lambda wanted: not wanted.lasting):
            if not wanted.lasting:
                learned += 1
                is_old = time.monotonic() - wanted.used > self.max_age or learned > self.limit
                if is_old or not wanted.digest or wanted.digest in digests:
                    del self._wanted[_key(wanted.request)]
            digests.add(wanted.digest)

    async def _refill(self) -> None:
        """Make one container, where the first is missing."""
        waiting = self._offers.all()
        for wanted in self._by_use():
            size = wanted.request.settings.warm_pool_size
            missing = size - sum(offer.digest == wanted.digest for offer in waiting)
            if wanted.is_full != (missing <= 0):
                wanted.is_full = missing <= 0
                if wanted.is_full:
                    self.on_full(wanted.request.kernel_name, size)
            if missing <= 0 or not wanted.digest or time.monotonic() < wanted.not_before:
                continue
            largest = max((offer.memory for offer in waiting), default=EXPECTED_MEMORY)
            memory = sum(offer.memory for offer in waiting) + largest
            if len(waiting) >= self.limit or memory > self.memory_limit:
                self.log.debug("Warm pool: %d containers wait, no more may.", len(waiting))
                return
            try:
                self._members.append(await self._warm(wanted))
                wanted.failures = 0
            except ContainerProvisionerError as exc:
                self._put_off(wanted, exc)
            return

    def _put_off(self, wanted: _Wanted, exc: ContainerProvisionerError) -> None:
        first, last = RETRY_SECONDS
        pause = min(last, first * 2**wanted.failures)
        is_told = self.on_failure(exc) or wanted.failures
        level = logging.DEBUG if is_told else logging.WARNING
        wanted.failures += 1
        wanted.not_before = time.monotonic() + pause
        name = wanted.request.kernel_name
        self.log.log(level, "Warm pool: none for kernelspec %s, which starts cold: %s", name, exc)

    async def _warm(self, wanted: _Wanted) -> _Member:
        engine, launch_id = wanted.engine, uuid.uuid4().hex
        name = labels.warm_name(launch_id[:12])
        await have_guarded(engine.url, self.log, f"Warm pool, {name}")
        async with AsyncExitStack() as undo:
            request = replace(
                wanted.request,
                kernel_id=name,
                connection_info={**wanted.request.connection_info, "key": uuid.uuid4().hex},
            )
            prepared = await prepare(request, engine, self.log)
            digest = specification_digest(prepared, engine.url)
            directory = prepared.directory
            undo.callback(directory.remove)
            prepared.create_directory()
            directory.write(STANDBY, standby_source(), prepared.user)
            prepared = replace(prepared, spec=waiting_spec(prepared))
            container = await create(
                prepared,
                engine,
                self.log,
                undo,
                name=name,
                launch_id=launch_id,
                extra_labels={labels.WARM: digest},
            )
            undo.callback(container.unfollow)
            info = await start(prepared, container)
            await until_ready(
                prepared, container, until_sockets([directory.sockets / CLAIM_SOCKET])
            )
            container_id = container.identity.container_id
            offer = Offer(
                digest=digest,
                name=name,
                container_id=container_id,
                launch_id=launch_id,
                since=time.time(),
                memory=(await engine.usage(container_id)).memory,
                started_at=info.started_at,
                addresses=dict(info.addresses),
                published=[(inside, *outside) for inside, outside in info.published.items()],
            )
            directory.close_sockets()
            directory.mark(own_lease().id, "warm")
            self._offers.put(offer)
            undo.pop_all()
        self.log.debug("Warm pool: container %s waits for %s.", name, request.kernel_name)
        return _Member(offer, container)


def _key(request: LaunchRequest) -> str:
    """Equal for requests that ask for the same."""
    return repr(
        (
            request.kernel_name,
            request.command,
            sorted(request.environment.items()),
            request.folder,
            request.settings,
        )
    )
