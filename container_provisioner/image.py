"""An image as the kernel's root filesystem: present or pulled, and whom it runs as."""

from __future__ import annotations

import asyncio
import io
import logging
import tarfile
import time
import uuid

from . import labels
from .engine.base import ImageInfo
from .engine.calls import Engine
from .errors import ContainerGone, ImageMissing, PullFailed, UserRefused
from .policy import KernelUser
from .spec import ContainerSpec
from .store import own_lease, place_id

# Between two lines about a pull in the log: a large image has thousands of steps.
PROGRESS_SECONDS = 5.0


async def ensure_image(
    engine: Engine, image: str, *, policy: str, deadline: float, log: logging.Logger
) -> ImageInfo:
    """The image, pulled as `policy` (always, missing, never) says, in `deadline` seconds at most.

    Raises `ImageMissing` under ``never``, `PullFailed` otherwise.
    """
    if policy != "always":
        try:
            return await engine.inspect_image(image)
        except ImageMissing:
            if policy == "never":
                raise
    log.info("Pulling image %s from its registry…", image)
    try:
        await engine.pull(image, _PullLog(image, log), deadline)
    except (asyncio.TimeoutError, TimeoutError) as exc:
        raise PullFailed(
            image, f"not finished after {deadline:g} s (pull_timeout); the engine goes on with it"
        ) from exc
    return await engine.inspect_image(image)


class _PullLog:
    """Writes a pull's progress to the log, at a rate that a person can read."""

    def __init__(self, image: str, log: logging.Logger) -> None:
        self._image, self._log, self._last = image, log, time.monotonic()

    def __call__(self, line: str) -> None:
        if time.monotonic() - self._last >= PROGRESS_SECONDS:
            self._last = time.monotonic()
            self._log.info("Pulling image %s: %s", self._image, line)


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
        _known_accounts[info.id] = await _accounts(engine, info.id)
    accounts = _known_accounts[info.id]
    fields = next((line for line in accounts if name in (line[0], line[2])), None)
    if fields is None:
        raise UserRefused(f"Image {image!r} runs as {info.user!r}, whom it does not know.")
    return KernelUser(int(fields[2]), int(group if group.isdecimal() else fields[3]))


# By the image's id, which is a digest of what is in it.
_known_accounts: dict[str, list[list[str]]] = {}


async def _accounts(engine: Engine, image_id: str) -> list[list[str]]:
    """The lines of the image's ``/etc/passwd``, split; empty when it has none."""
    name = f"image-lookup-{uuid.uuid4().hex[:12]}"
    spec = ContainerSpec(
        name=name,
        image=image_id,
        argv=("true",),
        labels=labels.owned(owner=own_lease().id, place=place_id()),
    )
    try:
        container = await engine.create(spec)
        archive = await engine.download(container, "/etc/passwd")
    except ContainerGone:
        return []
    finally:
        await engine.remove(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        file = members.extractfile("passwd")
        text = file.read().decode(errors="replace") if file is not None else ""
    return [fields for line in text.splitlines() if len(fields := line.split(":")) >= 4]
