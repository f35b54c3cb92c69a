"""A restart in a new container: the old one makes way, and neither is in the other's."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from container_provisioner import labels

from .conftest import StartKernel
from .ends import until

pytestmark = pytest.mark.docker

LAST_WORDS = """
import atexit, pathlib, time

def say():
    time.sleep(0.5)
    pathlib.Path('last').write_text('words')

atexit.register(say);
"""


async def test_what_runs_at_exit_has_run_when_the_new_kernel_is_there(
    start_kernel: StartKernel, folder: Path
) -> None:
    folder.chmod(0o777)
    kernel = await start_kernel(restart_mode="recreate", workspace="rw")
    await kernel.run(LAST_WORDS)
    await kernel.manager.restart_kernel()
    assert (folder / "last").read_text() == "words"


async def test_a_client_of_before_talks_to_the_new_kernel(start_kernel: StartKernel) -> None:
    """Its connections were the old kernel's, and nothing that it sends goes there any more."""
    kernel = await start_kernel(restart_mode="recreate")
    await kernel.run("x = 1")
    for _ in range(3):
        await kernel.manager.restart_kernel()
        await kernel.ready()  # its subscription too
        assert await kernel.run("print(globals().get('x')); x = 1") == "None\n"


async def test_the_old_container_goes(
    start_kernel: StartKernel, docker_client: docker.DockerClient
) -> None:
    kernel = await start_kernel(restart_mode="recreate")
    old = kernel.container_id
    await kernel.restart()
    assert kernel.container_id != old
    name = labels.container_name(kernel.manager.kernel_id)
    assert docker_client.containers.get(name).id == kernel.container_id

    def its_names() -> list[str]:
        found = docker_client.api.containers(all=True, filters={"id": old})
        return [item["Names"][0] for item in found]

    await until(lambda: not its_names())


async def test_a_kernel_that_hangs_at_its_end_is_killed(start_kernel: StartKernel) -> None:
    kernel = await start_kernel(restart_mode="recreate", manager={"shutdown_wait_time": 1.0})
    await kernel.run("x = 1; import atexit, time; atexit.register(time.sleep, 600);")
    await kernel.restart()
    assert await kernel.run("print(globals().get('x'))") == "None\n"
