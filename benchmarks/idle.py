"""What kernels cost that do nothing: the server's time, the engine's time and calls, memory."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import engine
from place import Column, Place
from running import say, scratch
from served import Server, jupyter_server

AT_ONCE = 4  # starts
SETTLE = 10.0  # seconds after the last start: watchers, restarters and the engine come to rest
TICKS = os.sysconf("SC_CLK_TCK")
ENGINES = ("dockerd", "containerd", "containerd-shim", "conmon", "podman")

ROWS = {
    "started": "started, s each",
    "server": "server, CPU s",
    "engine": "engine, CPU s",
    "requests": "requests to the engine",
    "kernel": "memory of a kernel, MB",
    "beside": "of the engine's process beside it, MB",
}


async def measure(columns: list[Column], number: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Column -> row -> figure. The first column is a server without kernels."""
    found = {}
    async with scratch() as directory, engine.counting(directory) as requests:
        place = Place(directory, columns)
        try:
            for column in [None, *columns]:
                name = column.name if column is not None else "no kernels"
                say(f"idle: {name}")
                found[name] = await one(column, place, number, seconds, requests)
        finally:
            place.close()
    return found


async def one(
    column: Column | None, place: Place, number: int, seconds: float, requests: Counter[str]
) -> dict[str, Any]:
    async with jupyter_server(place) as server:
        figures: dict[str, Any] = {}
        if column is not None:
            begin = perf_counter()
            ids = await start(server, place.kernel_name(column), number)
            figures["started"] = (perf_counter() - begin) / number
        await asyncio.sleep(SETTLE)
        asked = Counter(requests)
        before, engines = cpu([server.pid]), cpu(engine_pids())
        await asyncio.sleep(seconds)
        figures["server"] = cpu([server.pid]) - before
        figures["engine"] = cpu(engine_pids()) - engines
        figures["asked"] = dict(requests - asked)
        figures["requests"] = (requests - asked).total()
        if column is not None:
            names = [f"jupyter-kernel-{kernel_id}" for kernel_id in ids]
            # In a thread: it asks the engine through this process's own loop.
            figures |= await asyncio.to_thread(memory, server, names)
        return figures


async def start(server: Server, kernel_name: str, number: int) -> list[str]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one_kernel() -> str:
        async with slots:
            return await server.start(kernel_name)

    return list(await asyncio.gather(*(one_kernel() for _ in range(number))))


def table(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    made = [["", *found]]
    for key, label in ROWS.items():
        made.append([label, *(_cell(figures.get(key)) for figures in found.values())])
    return made


def _cell(figure: float | None) -> str:
    if figure is None:
        return "-"
    return str(figure) if isinstance(figure, int) else f"{figure:.2f}"


# -- /proc ----------------------------------------------------------------------------------


def cpu(pids: Iterable[int]) -> float:
    """Seconds that these processes have run."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks / TICKS


def engine_pids() -> list[int]:
    return [pid for pid, name in _names() if name.startswith(ENGINES)]


def _names() -> Iterable[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            yield int(path.parent.name), path.read_text().strip()


def memory(server: Server, containers: list[str]) -> dict[str, Any]:
    """MB of a kernel with its init, each page divided among all who have it; and beside it."""
    client = engine.client()
    inits = []
    for container in client.containers.list(filters={"name": "jupyter-kernel-"}):
        if container.name in containers:
            inits.append(int(client.api.inspect_container(container.id)["State"]["Pid"]))
    if not inits:
        kernels = [pid for pid in _below(server.pid) if _runs(pid, "ipykernel_launcher")]
        return {"kernel": _mean(kernels, len(kernels))}
    kernels = [pid for init in inits for pid in (init, *_below(init))]
    shims = [_parent(init) for init in inits]
    return {"kernel": _mean(kernels, len(inits)), "beside": _mean(shims, len(inits))}


def _mean(pids: list[int], number: int) -> float | None:
    """Of their proportional set sizes; None where they may not be read."""
    total = 0
    try:
        for pid in pids:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except OSError:
        return None
    return total / 1e3 / number if number else None


def _below(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *_below(child)]
    return found


def _runs(pid: int, module: str) -> bool:
    with suppress(OSError):
        return module in Path(f"/proc/{pid}/cmdline").read_text()
    return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
