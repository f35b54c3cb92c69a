"""How long it takes to get kept kernels back: `make bench`, or `python benchmarks/reattach.py`.

A process starts kernels and is killed; this one adopts them, one after the other and all at once,
and counts what it asks of the engine. A local kernel dies with its owner: nothing to compare with.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import engine
import report
import running
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from place import OURS, Column, Place

from container_provisioner.engine.calls import Engine
from container_provisioner.provisioner import ContainerProvisioner

AT_ONCE = 8  # as the server's extension does it
KEPT = Column(name="kept", provisioner=OURS, config={"on_server_exit": "keep", "workspace": "none"})
COLUMNS = {  # with the digits that are shown
    "kernels": 0,
    "one by one, ms": 1,
    "slowest, ms": 1,
    "at once, ms each": 1,
    "engine calls each": 1,
}

OWNER = """
import asyncio, sys
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

async def main(name, number, folder):
    managers = AsyncMultiKernelManager()
    slots = asyncio.Semaphore(4)
    async def start():
        async with slots:
            print(await managers.start_kernel(kernel_name=name, cwd=folder), flush=True)
    await asyncio.gather(*(start() for _ in range(number)))
    print("done", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
"""


async def owner_dies(name: str, number: int, folder: str) -> list[str]:
    """Ids of kernels whose owner was killed."""
    command = [sys.executable, "-c", OWNER, name, str(number), folder]
    ids = []
    async with running.process(*command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        while (line := (await owner.stdout.readline()).decode().strip()) != "done":
            if not line:
                raise SystemExit("The process that was to start the kernels has ended.")
            ids.append(line)
        owner.kill()
        await owner.wait()
    return ids


class Calls:
    """Counts every call to the engine in this process."""

    def __init__(self) -> None:
        self.number = 0
        original = Engine._call

        async def counted(engine: Engine, *args: Any) -> Any:
            self.number += 1
            return await original(engine, *args)

        Engine._call = counted  # type: ignore[method-assign]


async def detach(managers: AsyncMultiKernelManager) -> None:
    for kernel_id in managers.list_kernel_ids():
        provisioner = managers.get_kernel(kernel_id).provisioner
        assert isinstance(provisioner, ContainerProvisioner)
        await provisioner.detach()
        managers.remove_kernel(kernel_id)


async def measure(number: int, place: Place, calls: Calls) -> dict[str, float]:
    name, folder = place.kernel_name(KEPT), str(place.workspace)

    async def adopt(kernel_id: str) -> float:
        began = time.perf_counter()
        await managers.start_kernel(
            kernel_id=kernel_id, kernel_name=name, cwd=folder, adopt_only=True
        )
        return time.perf_counter() - began

    ids = await owner_dies(name, number, folder)
    # With a context of its own, its end would wait for messages to kernels that are gone.
    managers = AsyncMultiKernelManager(context=place.stock)
    await adopt(ids[0])  # opens the engine, and waits for the guard
    await detach(managers)

    before = calls.number
    singly = [await adopt(kernel_id) for kernel_id in ids]
    asked = (calls.number - before) / number
    await detach(managers)

    slots = asyncio.Semaphore(AT_ONCE)

    async def one(kernel_id: str) -> None:
        async with slots:
            await adopt(kernel_id)

    began = time.perf_counter()
    await asyncio.gather(*map(one, ids))
    together = (time.perf_counter() - began) / number
    await managers.shutdown_all(now=True)
    figures = [number, statistics.median(singly) * 1e3, max(singly) * 1e3, together * 1e3, asked]
    return dict(zip(COLUMNS, figures, strict=True))


async def run(numbers: list[int]) -> list[dict[str, float]]:
    calls = Calls()
    async with running.scratch() as directory, AsyncExitStack() as stack:
        place = Place(directory, [KEPT])
        stack.callback(place.close)
        stack.callback(engine.remove_kept, place.runtime)  # when it was interrupted
        return [await measure(number, place, calls) for number in numbers]


def main() -> None:
    parser = running.parser("reattach.py", __doc__)
    parser.add_argument("--kernels", type=int, nargs="+", default=[10, 50], metavar="N")
    arguments = parser.parse_args()
    found = running.run(lambda: run(arguments.kernels))
    cells = [[f"{row[name]:.{digits}f}" for name, digits in COLUMNS.items()] for row in found]
    told = [report.machine(), *report.changed()]
    running.tell(arguments, {"": [list(COLUMNS), *cells]}, told, {"reattach": found})


if __name__ == "__main__":
    main()
