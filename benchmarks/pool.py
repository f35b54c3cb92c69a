"""A pool of warm containers, kept by the package's own keeper in the foreground."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import engine
from running import Process, process

FULL = re.compile(r": (\d+) of \1 warm$")
FILL_TIMEOUT = 120.0  # seconds without a new line, after which the keeper is given up


@dataclass
class Pool:
    """Says when it is full, and counts how many starts found a warm container in it."""

    keeper: Process
    size: int
    full: asyncio.Event = field(default_factory=asyncio.Event)
    claims: int = 0
    misses: int = 0

    def taken_from(self) -> None:
        """To be called before a start: the next line of the keeper's is about the refill."""
        self.full.clear()

    async def check(self, kernel_id: str) -> None:
        """Whether this kernel's container came from the pool."""
        _, labels = await engine.look(f"jupyter-kernel-{kernel_id}")
        if engine.WARM in labels:
            self.claims += 1
        else:
            self.misses += 1
            self.full.set()  # nothing was taken, so nothing is refilled

    async def settled(self) -> None:
        """Wait until it is full, so that no refill runs beside what is measured."""
        try:
            await asyncio.wait_for(self.full.wait(), FILL_TIMEOUT + self.size * 5)
        except asyncio.TimeoutError:
            raise SystemExit("The pool does not get full.") from None

    def hold(self) -> None:
        """No refill from now on. Claims need no keeper: the pool is in the engine."""
        self.keeper.send_signal(signal.SIGSTOP)

    def go_on(self, *, taken: bool) -> None:
        """`taken`: there is something to refill, and a line to come."""
        if taken:
            self.full.clear()
        if self.keeper.returncode is None:
            self.keeper.send_signal(signal.SIGCONT)


def told(pools: Collection[Pool]) -> str:
    claims, misses = sum(one.claims for one in pools), sum(one.misses for one in pools)
    return f"{claims} of {claims + misses} starts were claims"


@asynccontextmanager
async def pool(kernel_name: str, size: int) -> AsyncIterator[Pool]:
    """Keep a pool for this kernelspec. It need not be full yet."""
    command = [sys.executable, "-m", "container_provisioner", "warm", kernel_name]
    async with process(*command, "--size", str(size), stdout=asyncio.subprocess.PIPE) as keeper:
        opened = Pool(keeper, size)
        reading = asyncio.create_task(_read(opened))
        try:
            yield opened
        finally:
            reading.cancel()
            opened.go_on(taken=False)


async def _read(opened: Pool) -> None:
    assert opened.keeper.stdout is not None
    async for line in opened.keeper.stdout:
        if FULL.search(line.decode().rstrip()):
            opened.full.set()
    raise SystemExit("The pool's keeper has ended; see above.")
