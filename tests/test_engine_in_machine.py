"""An engine in a virtual machine of this host, as that of Docker Desktop or Colima.

Its socket leads there by its name; what stands for the machine is this host's own engine.
"""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from container_provisioner import labels
from container_provisioner.topology import topology_of

from .conftest import IMAGE, StartKernel
from .docker_url import DOCKER_URL
from .owners import assert_controlled

COLIMA = ".colima/default/docker.sock"


@pytest.fixture
def machine(runtime_dir: Path) -> str:
    """The URL of its engine."""
    socket = runtime_dir.parent / COLIMA
    socket.parent.mkdir(parents=True)
    socket.symlink_to(DOCKER_URL.removeprefix("unix://"))
    return f"unix://{socket}"


@pytest.mark.docker
async def test_its_kernels_are_reached_over_loopback(
    machine: str, start_kernel: StartKernel, docker_client: docker.DockerClient
):
    """It shares no sockets, so their ports are published, for this host only; and in the sandbox
    nothing answers them all the same."""
    kernel = await start_kernel(image=IMAGE, engine_url=machine)
    await kernel.run("x = 1")
    container = docker_client.containers.get(kernel.container_id)
    settings = container.attrs["NetworkSettings"]
    hosts = {at["HostIp"] for ports in settings["Ports"].values() for at in ports or ()}
    assert (hosts, list(settings["Networks"])) == ({"127.0.0.1"}, [labels.PUBLISHED_NETWORK])
    connect = "import socket; socket.create_connection(('1.1.1.1', 53), timeout=1)"
    assert "TimeoutError" in await kernel.run(connect)
    await assert_controlled(kernel)


@pytest.mark.docker
async def test_one_that_cannot_encrypt_need_not(machine: str, start_kernel: StartKernel):
    """Nobody else is on loopback."""
    stanza = {"image": IMAGE, "engine_url": machine, "workspace": "none"}
    provisioner = {"provisioner_name": "container-provisioner", "config": stanza}
    kernel = await start_kernel(spec={"metadata": {"kernel_provisioner": provisioner}})
    assert kernel.manager.curve_secretkey is None
    assert await kernel.run("1 + 1") == "2"


@pytest.mark.parametrize(
    ("url", "is_in_one"),
    [
        ("unix:///home/ann/.docker/desktop/docker.sock", True),
        ("unix:///home/ann/.colima/work/docker.sock", True),
        ("unix:///run/user/1000/docker.sock", False),
        ("tcp://127.0.0.1:2375", False),
        ("", False),
    ],
)
def test_which_engines_are_in_one(url: str, is_in_one: bool):
    topology = topology_of(url)
    assert topology.in_machine == is_in_one
    assert topology.is_remote == (is_in_one or url.startswith("tcp:"))
