"""Many processes claim from one pool at once: no container ever serves two kernels."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from container_provisioner import labels
from container_provisioner.warm import pool

from .ends import left_below
from .pools import OpenPool, warm_pool_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

PROCESSES, CLAIMS, WAITING = 8, 4, 12

CLAIMER = """
import asyncio, json, os, sys, time
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from container_provisioner.provisioner import ContainerProvisioner
from container_provisioner.store import Offers

me, folder, claims = sys.argv[1:]

# They look one after the other, and then reach for the same container in the same moment.
look = Offers.all

def look_and_wait(self, *digest):
    found = look(self, *digest)
    time.sleep(0.1 - time.time() % 0.1)
    return found

Offers.all = look_and_wait

async def answers(manager, key):
    client = AsyncKernelClient()
    client.load_connection_info({**manager.get_connection_info(), "key": key})
    client.start_channels()
    try:
        request = client.kernel_info()
        reply = await client.get_shell_msg(timeout=20 if key == manager.session.key else 0.5)
        return reply["parent_header"]["msg_id"] == request
    except Exception:
        return False
    finally:
        client.stop_channels()

async def run(manager, code):
    said = []
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    await client.execute_interactive(
        code, timeout=60, output_hook=lambda message: said.append(message["content"].get("text"))
    )
    client.stop_channels()
    return "".join(filter(None, said))

async def main():
    managers = []
    for number in range(int(claims)):
        manager = AsyncKernelManager(kernel_name="contained")
        env = {**os.environ, "KERNEL_NUMBER": f"{me}.{number}"}
        await manager.start_kernel(cwd=folder, env=env)
        managers.append(manager)
        await run(manager, "import os; mine = os.environ['KERNEL_NUMBER']")
    print(json.dumps([
        {
            "container": manager.provisioner.facts.identity.container_id,
            "kernel": manager.kernel_id,
            "number": await run(manager, "print(mine, os.environ['KERNEL_NUMBER'])"),
            "own key": await answers(manager, manager.session.key),
            "another key": await answers(manager, managers[number - 1].session.key),
        }
        for number, manager in enumerate(managers)
    ]), flush=True)
    sys.stdin.readline()
    for manager in managers:
        await manager.shutdown_kernel(now=True)

sys.stdin.readline()
asyncio.run(main())
"""


def claimer(number: int, folder: Path) -> subprocess.Popen[str]:
    """It begins when it is told to, and ends when it is told to."""
    argv = [sys.executable, "-c", CLAIMER, str(number), str(folder), str(CLAIMS)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return list(json.loads(process.stdout.readline()))


async def test_no_container_serves_two_kernels(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    our_containers: Callable[[], list[str]],
    runtime_dir: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight processes start four kernels each while the pool is refilled."""
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.0)
    opened = await warm_pool(size=WAITING, workspace="none")
    claimers = [claimer(number, folder) for number in range(PROCESSES)]
    try:
        first = {offer.container_id for offer in opened.waiting}
        for process in claimers:
            tell(process)
        said = [await asyncio.to_thread(answer, process) for process in claimers]
        await opened.close()
        found = [kernel for kernels in said for kernel in kernels]
        names = [labels.container_name(kernel["kernel"]) for kernel in found]
        assert sorted(our_containers()) == sorted(names)
        ids = [docker_client.containers.get(name).id for name in names]
        assert ids == [kernel["container"] for kernel in found]
        assert len(set(ids)) == PROCESSES * CLAIMS
        assert first <= set(ids)  # whatever waited has been taken
        for number, kernels in enumerate(said):
            assert [(k["number"], k["own key"], k["another key"]) for k in kernels] == [
                (f"{number}.{claim} {number}.{claim}\n", True, False) for claim in range(CLAIMS)
            ]
        for process in claimers:
            tell(process)
        assert [await asyncio.to_thread(process.wait, 60) for process in claimers] == [0] * 8
    finally:
        for process in claimers:
            process.kill()
            process.communicate()
    assert our_containers() == []
    assert left_below(runtime_dir) == []
