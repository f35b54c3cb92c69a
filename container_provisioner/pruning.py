"""What nobody needs any more, found and removed: the third net, after the guard and the next start.

What belongs to a process that lives is never touched: owners are told by their leases, and a lease
is there before anything that its process makes. All is looked at once more, by itself, in the
moment of its removal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import labels
from .adoption import facts_beside
from .command import PRIVATE_DIR
from .engine.base import ENDED, RUNNING, ContainerInfo, ImageInfo
from .engine.calls import Engine
from .errors import ContainerGone, EngineError, KernelNotAdoptable
from .guard import GuardUnavailable, ask_guard
from .guard.settle import owner_of, settle
from .internal_network import internal_network_of, remove_internal_network
from .leftover_files import Files
from .store import KernelDirectory, Offer, Offers, Place, lease_is_held, place_id

_WAITS = "it waits in a pool"


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something of this user's and this runtime directory's that nobody needs."""

    kind: str  # "kernel", "warm container", "files", "volume", "image" or "network"
    name: str  # a kernel's id, else its own name or path
    why: str
    size: int = 0  # bytes, where that is known without asking


@dataclass(kw_only=True)
class Pruning:
    """What was done. What turned out to be needed after all is in neither."""

    removed: list[Leftover] = field(default_factory=list)
    failed: list[tuple[Leftover, str]] = field(default_factory=list)  # and why


@dataclass(frozen=True, kw_only=True)
class _Item:
    leftover: Leftover
    remove: Callable[[], Awaitable[bool]]  # whether it is gone; False when somebody has it now
    owners: frozenset[str] = frozenset()


async def find_leftovers(engine: Engine) -> list[Leftover]:
    """What `prune` would remove. Changes nothing. Raises `EngineError`."""
    return [item.leftover for item in (await _Look.at(engine)).items()]


async def find_forgotten(engine: Engine) -> list[Leftover]:
    """Those of them that are a fault: what kernels share, and what waits in a pool that somebody
    keeps, is only not needed now. Raises `EngineError`."""
    return [
        leftover
        for leftover in await find_leftovers(engine)
        if leftover.kind not in ("image", "network") and leftover.why != _WAITS
    ]


async def prune(engine: Engine, log: logging.Logger) -> Pruning:
    """Remove what nobody needs; may be repeated, and done by several at once.

    That is: kernels whose owner has died and that are not to be kept, ended ones, whatever waits in
    a warm pool (a keeper that lives makes others), files and volumes of kernels that are no more,
    images of empty directories and the internal network when no container uses them.

    Raises `EngineError` when the engine does not answer; what it refuses is in the outcome.
    """
    look, done = await _Look.at(engine), Pruning()
    items = list(look.items())
    # One process settles a dead owner's affairs; what the guard cannot, or does not know of, is
    # done here.
    await asyncio.gather(*(_ask_to_settle(owner) for owner in look.files.dead))
    for owner in sorted({owner for item in items for owner in item.owners}):
        with contextlib.suppress(EngineError):  # each of its containers has its turn below
            await settle(owner, [engine.url], look.files.records, Place.own(), log)
    for item in items:
        try:
            if await item.remove():
                done.removed.append(item.leftover)
        except (EngineError, OSError) as exc:
            done.failed.append((item.leftover, str(exc)))
    return done


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A container of this user's whose runtime directory is not there."""

    container_id: str
    name: str
    directory: str  # which it was made with, private to the kernel


async def find_elsewhere(engine: Engine) -> list[Elsewhere]:
    """What no Jupyter of this host can reach any more. Raises `EngineError`.

    In a container, a directory of the host or of another container is not there either: whether
    these kernels are needed, only their user knows.
    """
    mine = {labels.OWNER_UID: str(os.getuid())}
    found = await engine.list_containers({labels.KERNEL_ID: None, **mine})
    others = [item for item in found if item.labels.get(labels.PLACE) != place_id()]
    looked = await asyncio.gather(*(_private_directory(engine, item.id) for item in others))
    return [
        Elsewhere(container_id=item.id, name=item.name, directory=directory)
        for item, directory in zip(others, looked, strict=True)
        if directory and not Path(directory).exists()
    ]


async def _private_directory(engine: Engine, container_id: str) -> str:
    """On the engine's host; empty for a container that has none, or is gone."""
    with contextlib.suppress(ContainerGone):
        for mount in (await engine.inspect(container_id)).mounts:
            if mount.target == PRIVATE_DIR:
                return mount.source
    return ""


async def _ask_to_settle(owner: str) -> None:
    with contextlib.suppress(GuardUnavailable):
        await ask_guard("settle", owner=owner)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """All there was at one moment."""

    engine: Engine
    files: Files
    offers: list[Offer]
    containers: list[ContainerInfo]  # everybody's
    images: list[ImageInfo]
    volumes: list[str]
    network: str
    has_network: bool

    @classmethod
    async def at(cls, engine: Engine) -> _Look:
        # Files first: what is made between the two is missing in them, and nobody's leftover.
        files = await asyncio.to_thread(Files.now, engine.url)
        offers = await asyncio.to_thread(Offers().all)
        network = internal_network_of(engine)
        volumes_of = {labels.KERNEL_ID: None, labels.PLACE: place_id()}
        containers, images, volumes, networks = await asyncio.gather(
            engine.list_containers({labels.KERNEL_ID: None}),
            engine.list_images({labels.HOST_ENVIRONMENT: None}),
            engine.unused_volumes(volumes_of),
            engine.networks(network),
        )
        return cls(
            engine=engine,
            files=files,
            offers=offers,
            containers=containers,
            images=images,
            volumes=volumes,
            network=network,
            has_network=any(labels.INTERNAL in network.labels for network in networks),
        )

    def items(self) -> Iterator[_Item]:
        """In the order in which they can be removed."""
        ours = [c for c in self.containers if c.labels.get(labels.PLACE) == place_id()]
        offered = {offer.container_id: offer for offer in self.offers}
        goes: set[str] = set()
        for found in ours:
            offer = offered.get(found.id)
            item = self._warm(found, offer) if offer else self._kernel(found)
            if item is not None:
                goes.add(found.id)
                yield item
        there = {found.id for found in self.containers}
        for kernel_id, container_id in self.files.lost_kernels(there):
            yield _Item(
                leftover=Leftover(kind="kernel", name=kernel_id, why="its container is gone"),
                remove=partial(self._forget, kernel_id, container_id),
            )
        kernels = {found.labels[labels.KERNEL_ID] for found in ours}
        for path, why in self.files.stray(kernels, self.offers, there):
            yield _Item(
                leftover=Leftover(kind="files", name=str(path), why=why),
                remove=partial(asyncio.to_thread, self.files.remove, path),
            )
        for name in self.volumes:
            yield _Item(
                leftover=Leftover(kind="volume", name=name, why="its container is gone"),
                remove=partial(self.engine.remove_volume, name),
            )
        yield from self._shared([c for c in self.containers if c.id not in goes])

    # -- containers -------------------------------------------------------------------------

    def _warm(self, found: ContainerInfo, offer: Offer) -> _Item:
        keeper, _ = KernelDirectory.of(offer.name).marked()
        lives = lease_is_held(keeper)
        return _Item(
            leftover=Leftover(
                kind="warm container",
                name=offer.name,
                why=_WAITS if lives else "its keeper has died",
            ),
            remove=partial(self._take, offer),
            owners=frozenset() if lives else frozenset({keeper} - {""}),
        )

    async def _take(self, offer: Offer) -> bool:
        if not Offers().take(offer):  # a launch was faster, or the guard
            with contextlib.suppress(ContainerGone):
                await self.engine.inspect(offer.container_id)
                return False
            return True
        await self.engine.remove(offer.container_id)
        await asyncio.to_thread(KernelDirectory.of(offer.name).remove)
        return True

    def _kernel(self, found: ContainerInfo) -> _Item | None:
        """None when it goes on, or is a living process's."""
        kernel_id, keeps = found.labels[labels.KERNEL_ID], False
        with contextlib.suppress(KernelNotAdoptable):
            facts = facts_beside(found)
            kernel_id, keeps = facts.identity.kernel_id, facts.on_server_exit == "keep"
        owners = self._owners(found, kernel_id)
        _, phase = KernelDirectory.of(kernel_id).marked()
        if any(map(lease_is_held, owners)):
            return None
        # "closing" and "restarting" are half-done restarts, which the guard finishes.
        goes_on = found.state in RUNNING or phase in ("closing", "restarting")
        if keeps and goes_on and phase not in ("starting", "ending"):
            return None
        return _Item(
            leftover=Leftover(
                kind="kernel",
                name=kernel_id,
                why="it has ended" if found.state in ENDED else "its owner has died",
            ),
            remove=partial(self._remove, found, kernel_id, keeps=keeps),
            owners=frozenset(owners),
        )

    def _owners(self, found: ContainerInfo, kernel_id: str) -> set[str]:
        """Everybody whom anything says to answer for it: one that lives is enough."""
        marked, _ = KernelDirectory.of(kernel_id).marked()
        recorded = self.files.recorded_owner(kernel_id, found.id)
        return {owner_of(found), marked, recorded} - {""}

    async def _remove(self, found: ContainerInfo, kernel_id: str, *, keeps: bool) -> bool:
        with contextlib.suppress(ContainerGone):
            now = await self.engine.inspect(found.id)
            if any(map(lease_is_held, self._owners(now, kernel_id))):
                return False
            if keeps and now.state in RUNNING:  # the guard has finished its restart
                return False
            await self.engine.remove(found.id)
        return await self._forget(kernel_id, found.id)

    async def _forget(self, kernel_id: str, container_id: str) -> bool:
        return await asyncio.to_thread(self.files.forget, kernel_id, container_id)

    # -- what kernels share -----------------------------------------------------------------

    def _shared(self, stay: list[ContainerInfo]) -> Iterator[_Item]:
        used = {found.image for found in stay}
        for image in self.images:
            if not used & {image.id, *image.names}:
                name = image.names[0] if image.names else image.id
                yield _Item(
                    leftover=Leftover(
                        kind="image", name=name, why="no kernel uses it", size=image.size
                    ),
                    remove=partial(self._remove_image, image.id, name),
                )
        if self.has_network and all(c.network != self.network for c in stay):
            yield _Item(
                leftover=Leftover(kind="network", name=self.network, why="no kernel is in it"),
                remove=partial(remove_internal_network, self.engine),
            )

    async def _remove_image(self, image_id: str, name: str) -> bool:
        await self.engine.remove_image(name)  # stays when a container uses it by now
        left = await self.engine.list_images({labels.HOST_ENVIRONMENT: None})
        return all(image.id != image_id for image in left)
