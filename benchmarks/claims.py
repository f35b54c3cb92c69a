"""Several processes take from one pool at the same time: how long it takes, and no kernel twice.

Run as a script it is one of these processes: `claims.py KERNEL BEFORE NUMBER FOLDER`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import engine
from jupyter_client.manager import AsyncKernelManager
from place import Column, Place
from pool import Pool
from report import Measure
from running import Process, process, run, say

PROCESSES = 8
LOOK_SECONDS = 1.0  # at whether a kernel that does not answer lives
TIMEOUT = 300.0  # seconds for anything; more is an error, not a figure

MEASURES = (
    Measure("each", "claims", "start to first reply, s", lambda s: s, 3),
    Measure("slowest", "claims", "the slowest, s", lambda s: s, 3),
    Measure("all", "claims", "until all have answered, s", lambda s: s, 2),
)

Kernels = list[dict[str, Any]]


async def one_process(kernel_name: str, before: str, number: int, folder: str) -> None:
    """Starts kernels when it is told to, and says of each what it was and what it held.

    A kernel called `before` has come and gone by then: everything is imported, and the engine open.
    """
    managers, kernels = [], []
    try:
        first = AsyncKernelManager(kernel_name=before)
        managers.append(first)
        await first.start_kernel(cwd=folder)
        await first.shutdown_kernel(now=True)
        managers.remove(first)
        await _told("ready")
        while len(kernels) < number:
            manager = AsyncKernelManager(kernel_name=kernel_name)
            managers.append(manager)
            begin = perf_counter()
            await manager.start_kernel(cwd=folder)
            client = manager.client()
            client.start_channels(stdin=False, hb=False, control=False)
            if await _answers(manager, client):
                kernels.append((manager, client, perf_counter() - begin))
            else:
                client.stop_channels()
        found = []
        for manager, client, seconds in kernels:
            mine = uuid.uuid4().hex
            before = await _value(client, f"globals().get('mine'), globals().update(mine={mine!r})")
            kernel: dict[str, Any] = {"id": manager.kernel_id, "seconds": seconds}
            found.append({**kernel, "before": before, "mine": repr(mine)})
        await _told("written")  # when all others have written as well
        for (_, client, _), kernel in zip(kernels, found, strict=True):
            kernel["after"] = await _value(client, "mine")
        await _told(json.dumps(found))
    finally:
        for _, client, _ in kernels:
            client.stop_channels()
        for manager in managers:
            await manager.shutdown_kernel(now=True)


async def _answers(manager: AsyncKernelManager, client: Any) -> bool:
    """False for one that has ended: a local kernel's ports are chosen before it has them, and now
    and then another process is faster. Another one is started then, and timed."""
    reply = asyncio.ensure_future(client.kernel_info(reply=True, timeout=TIMEOUT))
    while not (await asyncio.wait([reply], timeout=LOOK_SECONDS))[0]:
        if not await manager.is_alive():
            reply.cancel()
            return False
    await reply
    return True


async def _told(line: str) -> None:
    """Say it, and wait for the word to go on."""
    print(line, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def _value(client: Any, expression: str) -> str:
    reply = await client.execute("", user_expressions={"it": expression}, reply=True, timeout=60)
    return str(reply["content"]["user_expressions"]["it"]["data"]["text/plain"])


async def measure(
    columns: list[Column], place: Place, number: int, pools: dict[str, Pool]
) -> tuple[dict[str, dict[str, list[list[float]]]], list[str]]:
    """Samples for a table, and what is to be told. Raises SystemExit for a kernel given twice."""
    samples: dict[str, dict[str, list[list[float]]]] = {m.key: {} for m in MEASURES}
    told = []
    for column in columns:
        say(f"{number} kernels by {PROCESSES} processes: {column.name}")
        pool = pools.get(column.name)
        if pool is not None:
            await pool.settled()
            pool.hold()
        before = next(c for c in columns if c.provisioner == column.provisioner)
        names = [place.kernel_name(column), place.kernel_name(before)]
        kernels, seconds = await _all_processes(names, number, place)
        each = [kernel["seconds"] for kernel in kernels]
        for key, value in (("each", median(each)), ("slowest", max(each)), ("all", seconds)):
            samples[key][column.name] = [each if key == "each" else [value]]
        told += check(column.name, kernels)
        if pool is not None:
            taken = sum(kernel["warm"] for kernel in kernels)
            told.append(f"{column.name}: {taken} came from the pool")
            pool.go_on(taken=taken > 0)
    return samples, told


def check(column: str, kernels: Kernels) -> list[str]:
    """Each kernel held nothing before and what was put there afterwards; no container twice."""
    for kernel in kernels:
        if not kernel["before"].startswith("(None,") or kernel["after"] != kernel["mine"]:
            raise SystemExit(f"{column}: a kernel was given twice: {kernel}")
    containers = [kernel["container"] for kernel in kernels if kernel["container"]]
    if len(set(containers)) != len(containers):
        raise SystemExit(f"{column}: a container was given twice: {containers}")
    return [
        f"{column}: {len(kernels)} kernels, {len(set(containers))} containers, none given twice"
    ]


async def _all_processes(names: list[str], number: int, place: Place) -> tuple[Kernels, float]:
    command = [sys.executable, str(Path(__file__)), *names, str(number // PROCESSES)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "limit": 1 << 20}
    async with AsyncExitStack() as stack:
        started: list[Process] = [
            await stack.enter_async_context(process(*command, str(place.workspace), **pipes))
            for _ in range(PROCESSES)
        ]
        await asyncio.gather(*map(_line, started))
        begin = perf_counter()
        await asyncio.gather(*map(_next, started))
        seconds = perf_counter() - begin
        kernels = [kernel for line in await asyncio.gather(*map(_next, started))
                   for kernel in json.loads(line)]  # fmt: skip
        for kernel in kernels:
            await _describe(kernel)
        for one in started:
            assert one.stdin is not None
            one.stdin.close()
        await asyncio.gather(*(one.wait() for one in started))
    return kernels, seconds


async def _describe(kernel: dict[str, Any]) -> None:
    kernel["container"], labels = await engine.look(f"jupyter-kernel-{kernel['id']}")
    kernel["warm"] = engine.WARM in labels


async def _line(one: Process) -> str:
    assert one.stdout is not None
    line = await asyncio.wait_for(one.stdout.readline(), TIMEOUT)
    if not line:
        raise SystemExit("A process that was to start kernels has ended; see above.")
    return line.decode()


async def _next(one: Process) -> str:
    assert one.stdin is not None
    one.stdin.write(b"go on\n")
    return await _line(one)


if __name__ == "__main__":
    run(lambda: one_process(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
