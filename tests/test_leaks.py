"""Fifty launches and shutdowns, some cancelled, leave this machine as it was."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import threading
import uuid
from collections import Counter
from pathlib import Path

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.engine.find import close_engines

from .conftest import WriteKernelspec
from .ends import left_below

pytestmark = [pytest.mark.docker, pytest.mark.alone]

AT_ONCE = 4
LONGEST = 1.0  # seconds before a cancel; about what a start takes here when four run at once


class Launches:
    """Starts and ends kernels, by dice that always fall the same."""

    def __init__(self, kernel_name: str, folder: Path) -> None:
        self.kernel_name, self.folder = kernel_name, folder
        self.kernel_ids: list[str] = []
        self.cancelled = 0
        self._dice = random.Random(9)
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def one(self, *, cancel: bool) -> None:
        delay, now = self._dice.uniform(0, LONGEST), self._dice.random() < 0.5
        kernel_id = str(uuid.uuid4())
        self.kernel_ids.append(kernel_id)
        manager = AsyncKernelManager(kernel_name=self.kernel_name)
        async with self._slots:
            start = asyncio.create_task(
                manager.start_kernel(cwd=str(self.folder), kernel_id=kernel_id)
            )
            if cancel:
                await asyncio.wait([start], timeout=delay)
                start.cancel()
            try:
                await start
            except asyncio.CancelledError:
                self.cancelled += 1
            await manager.shutdown_kernel(now=now)

    async def many(self, count: int) -> None:
        await asyncio.gather(*(self.one(cancel=number % 3 == 0) for number in range(count)))


def launch(count: int, kernel_name: str, folder: Path) -> Launches:
    """In a loop of their own, whose threads end with it."""

    async def run() -> Launches:
        launches = Launches(kernel_name, folder)
        await launches.many(count)
        return launches

    launches = asyncio.run(run())
    close_engines()
    gc.collect()
    return launches


def open_files() -> Counter[str]:
    """What the descriptors of this process are."""
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[re.sub(r"\d+", "", str(path.readlink()))] += 1
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


def test_fifty_launches_leave_nothing(
    kernelspec: WriteKernelspec,
    docker_client: docker.DockerClient,
    folder: Path,
    runtime_dir: Path,
):
    name = kernelspec()
    launch(2, name, folder)  # what is made once and kept, such as the image of empty directories
    networks = {network.id for network in docker_client.networks.list()}
    threads, files = set(threading.enumerate()), open_files()

    launches = launch(50, name, folder)

    assert 5 <= launches.cancelled <= 17
    assert (set(threading.enumerate()), open_files()) == (threads, files)
    assert left_below(runtime_dir) == []
    assert {network.id for network in docker_client.networks.list()} == networks
    ours = {labels.container_name(kernel_id) for kernel_id in launches.kernel_ids}
    there = docker_client.containers.list(all=True, ignore_removed=True)
    assert [container.name for container in there if container.name in ours] == []
