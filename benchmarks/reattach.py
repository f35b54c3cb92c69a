"""How long it takes to get kept kernels back: `make bench`, or `python benchmarks/reattach.py`.

A process starts kernels and is killed; this one adopts them, one after the other and all at once,
and counts what it asks of the engine. A local kernel dies with its owner: nothing to compare with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from container_provisioner.engine.calls import Engine
from container_provisioner.provisioner import ContainerProvisioner

AT_ONCE = 8  # as the server's extension does it

OWNER = """
import asyncio, sys
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

async def main():
    managers = AsyncMultiKernelManager()
    slots = asyncio.Semaphore(4)
    async def start():
        async with slots:
            print(await managers.start_kernel(kernel_name="kept", cwd=sys.argv[2]), flush=True)
    await asyncio.gather(*(start() for _ in range(int(sys.argv[1]))))
    print("done", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def owner_dies(number: int, folder: str) -> list[str]:
    """Ids of kernels whose owner was killed."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(number), folder], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    ids = []
    while (line := owner.stdout.readline().strip()) != "done":
        if not line:
            raise SystemExit("The process that was to start the kernels has ended.")
        ids.append(line)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
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


async def adopt(managers: AsyncMultiKernelManager, kernel_id: str, folder: str) -> float:
    began = time.perf_counter()
    await managers.start_kernel(
        kernel_id=kernel_id, kernel_name="kept", cwd=folder, adopt_only=True
    )
    return time.perf_counter() - began


async def detach(managers: AsyncMultiKernelManager) -> None:
    for kernel_id in managers.list_kernel_ids():
        provisioner = managers.get_kernel(kernel_id).provisioner
        assert isinstance(provisioner, ContainerProvisioner)
        await provisioner.detach()
        managers.remove_kernel(kernel_id)


async def measure(number: int, folder: str, calls: Calls) -> dict[str, float]:
    ids = await asyncio.to_thread(owner_dies, number, folder)
    managers = AsyncMultiKernelManager()
    await adopt(managers, ids[0], folder)  # opens the engine, and waits for the guard
    await detach(managers)

    before = calls.number
    singly = [await adopt(managers, kernel_id, folder) for kernel_id in ids]
    asked = (calls.number - before) / number
    await detach(managers)

    slots = asyncio.Semaphore(AT_ONCE)

    async def one(kernel_id: str) -> None:
        async with slots:
            await adopt(managers, kernel_id, folder)

    began = time.perf_counter()
    await asyncio.gather(*map(one, ids))
    together = (time.perf_counter() - began) / number
    await managers.shutdown_all(now=True)
    return {
        "kernels": number,
        "one by one, ms": statistics.median(singly) * 1e3,
        "slowest, ms": max(singly) * 1e3,
        "at once, ms each": together * 1e3,
        "engine calls each": asked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="reattach.py")
    parser.add_argument("--kernels", type=int, nargs="+", default=[10, 50], metavar="N")
    arguments = parser.parse_args()
    calls = Calls()
    with tempfile.TemporaryDirectory(prefix="reattach-", dir="/tmp") as base:
        Path(base).chmod(0o755)
        os.environ["JUPYTER_RUNTIME_DIR"] = f"{base}/runtime"
        os.environ["JUPYTER_PATH"] = f"{base}/path"
        spec = Path(base, "path", "kernels", "kept", "kernel.json")
        spec.parent.mkdir(parents=True)
        stanza = {
            "provisioner_name": "container-provisioner",
            "config": {"on_server_exit": "keep", "workspace": "none"},
        }
        spec.write_text(
            json.dumps(
                {
                    "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                    "display_name": "kept",
                    "language": "python",
                    "metadata": {"kernel_provisioner": stanza},
                }
            )
        )
        rows = [asyncio.run(measure(number, base, calls)) for number in arguments.kernels]
    names = list(rows[0])
    print("| " + " | ".join(names) + " |")
    print("|" + " --: |" * len(names))
    for row in rows:
        print("| " + " | ".join(f"{row[name]:.4g}" for name in names) + " |")


if __name__ == "__main__":
    main()
