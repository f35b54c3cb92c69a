"""Kernels that are started at the same time take turns with what each does in one go."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def turn() -> None:
    """Go on in a round of the event loop in which nobody else does who waits here.

    A start takes a few milliseconds before it first waits for anything. Twenty would add up.
    """
    async with _locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await asyncio.sleep(0)
