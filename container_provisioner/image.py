"""An image as the kernel's root filesystem: present or pulled, and whom it runs as."""

from __future__ import annotations

import asyncio
import io
import logging
import tarfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from . import labels
from .engine.base import ImageInfo, Progress, PullStep
from .engine.calls import Engine
from .errors import ArchiveTooLarge, ContainerGone, ImageMissing, PullFailed, UserRefused
from .policy import KernelUser
from .pulling import PullCounter
from .spec import ContainerSpec
from .store import own_lease, place_id

# Between two lines about a pull in the log: a large image has thousands of steps.
PROGRESS_SECONDS = 5.0
# The accounts of a very large site, in bytes.
PASSWD_BYTES = 4 * 1024**2


async def ensure_image(
    engine: Engine,
    image: str,
    *,
    policy: str,
    deadline: float,
    log: logging.Logger,
    progress: Progress | None = None,
) -> ImageInfo:
    """The image, pulled as `policy` (always, missing, never) says, in `deadline` seconds at most.

    `progress` is told each step of a pull, at first that it begins; the log gets a line about all
    layers every `PROGRESS_SECONDS`. Raises `ImageMissing` under ``never``, `PullFailed` otherwise.
    """
    if policy != "always":
        try:
            return await engine.inspect_image(image)
        except ImageMissing:
            if policy == "never":
                raise
    pull = _Pull(image, log, progress)
    try:
        await engine.pull(image, pull, deadline)
    except asyncio.TimeoutError as exc:
        raise PullFailed(
            image, f"not finished after {deadline:g} s (pull_timeout); the engine goes on with it"
        ) from exc
    finally:
        pull.is_over = True
    pull.log_end()
    return await engine.inspect_image(image)


class _Pull:
    """Passes a pull's steps on, and writes their sum to the log at a rate that one can read."""

    def __init__(self, image: str, log: logging.Logger, listener: Progress | None) -> None:
        self.is_over = False  # for us: the engine goes on with one that was given up
        self._image, self._log, self._listener = image, log, listener
        self._counter = PullCounter()
        self._began = self._last = time.monotonic()
        log.info("Pulling image %s from its registry…", image)
        self(PullStep(status=f"Pulling {image}"))

    def __call__(self, step: PullStep) -> None:
        if self.is_over:
            return
        self._counter.add(step)
        if self._listener is not None:
            self._listener(step)
        if time.monotonic() - self._last >= PROGRESS_SECONDS:
            self._last = time.monotonic()
            self._log.info("Pulling image %s: %s", self._image, self._counter.totals)

    def log_end(self) -> None:
        seconds = time.monotonic() - self._began
        totals = self._counter.totals
        self._log.info("Pulled image %s in %.1f s (%s)", self._image, seconds, totals)


async def image_user(engine: Engine, image: str, info: ImageInfo) -> KernelUser:
    """The image's user as numbers; root when it names none.

    A name is looked up in the image's own ``/etc/passwd``, through a container that is made for
    it and never started. Raises `UserRefused` when it is not there.
    """
    name, _, group = info.user.partition(":")
    if not name:
        return KernelUser(0, 0)
    if name.isdecimal() and (not group or group.isdecimal()):
        return KernelUser(int(name), int(group or name))
    if info.id not in _known_accounts:
        async with unstarted(engine, info.id) as container:
            _known_accounts[info.id] = await passwd_entries(engine, container)
    known = _known_accounts[info.id]
    fields = next((line for line in known if name in (line[0], line[2])), None)
    if fields is None:
        raise UserRefused(f"Image {image!r} runs as {info.user!r}, whom it does not know.")
    return KernelUser(int(fields[2]), int(group if group.isdecimal() else fields[3]))


# By the image's id, which is a digest of what is in it.
_known_accounts: dict[str, list[list[str]]] = {}


@asynccontextmanager
async def unstarted(engine: Engine, image: str) -> AsyncIterator[str]:
    """A container of the image to look into, by its id. Nothing in it is run."""
    name = f"image-lookup-{uuid.uuid4().hex[:12]}"
    spec = ContainerSpec(
        name=name,
        image=image,
        argv=("true",),
        labels=labels.owned(owner=own_lease().id, place=place_id()),
    )
    try:
        yield await engine.create(spec)
    finally:
        await engine.remove(name)


async def passwd_entries(engine: Engine, container: str) -> list[list[str]]:
    """The fields of each line of the ``/etc/passwd`` in a container; empty when it has none."""
    try:
        archive = await engine.download(container, "/etc/passwd", PASSWD_BYTES)
    except (ContainerGone, ArchiveTooLarge):
        return []
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        member = members.next()
        file = members.extractfile(member) if member is not None and member.isreg() else None
        text = file.read(PASSWD_BYTES).decode(errors="replace") if file is not None else ""
    lines = [line.split(":") for line in text.splitlines()]
    return [
        fields
        for fields in lines
        if len(fields) >= 4 and fields[2].isdecimal() and fields[3].isdecimal()
    ]
