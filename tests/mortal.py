"""A script: starts, restarts and shuts down kernels of two kinds at once, until it is killed.

Arguments: the folder of the notebooks, a seed, and after how many operations on files and sockets
it kills itself and its whole process group; 0 leaves that to others.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from typing import Any

from jupyter_client.multikernelmanager import AsyncMultiKernelManager

CHANGES = {
    *("fcntl.lockf", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"),
    *("socket.connect", "subprocess.Popen"),
}


class Death:
    """Comes before the n-th operation that somebody else could see half done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(args[2], int) and args[2] & os.O_ACCMODE
        if event in CHANGES or is_write:
            self.approach()

    def approach(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.killpg(0, signal.SIGKILL)


async def live(managers: AsyncMultiKernelManager, name: str, folder: str, seed: str) -> None:
    chance = random.Random(seed)
    while True:
        kernel_id = await managers.start_kernel(kernel_name=name, cwd=folder)
        for _ in range(chance.randrange(3)):
            await managers.restart_kernel(kernel_id, now=chance.random() < 0.5)
        if chance.random() < 0.7:
            await managers.shutdown_kernel(kernel_id, now=chance.random() < 0.5)


async def main(folder: str, seed: str, operations: int) -> None:
    managers = AsyncMultiKernelManager()
    if operations:
        sys.addaudithook(Death(operations).audit)
    print("begins", flush=True)
    await asyncio.gather(*(live(managers, name, folder, seed + name) for name in ("keep", "stop")))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
