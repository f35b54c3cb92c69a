"""Kernels as services of a real swarm: two engines in two network namespaces."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.ioloop import AsyncIOLoopKernelManager

from container_provisioner import labels
from container_provisioner.errors import (
    ConfigurationError,
    EngineError,
    EngineMismatch,
    KernelDied,
    StartTimeout,
)
from container_provisioner.pruning import prune

from .command_line import Ended, command
from .conftest import IMAGE, Kernel, StartKernel, WriteKernelspec
from .ends import end_of, left_below, until
from .installs import installed, prefix_fixture  # noqa: F401 - a fixture
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .places import Place, place_fixture  # noqa: F401 - a fixture
from .server_process import eventually
from .successor import Successor, successor_fixture  # noqa: F401 - a fixture
from .swarm_engines import Swarm, closed
from .swarm_engines import swarm as make_swarm

pytestmark = pytest.mark.docker

Start = Callable[..., Awaitable[Kernel]]


@pytest.fixture(scope="module")
def formed() -> Iterator[Swarm]:
    with make_swarm(IMAGE) as made:
        yield made
        eventually(lambda: made.left_on_nodes() == [], "the nodes to be empty")


@pytest.fixture
def swarm(formed: Swarm, runtime_dir: Path) -> Iterator[Swarm]:
    """Nothing is left on it, nor here."""
    yield formed
    eventually(lambda: formed.left() == [], "the swarm to be empty")


@pytest.fixture
def there(formed: Swarm) -> Iterator[docker.DockerClient]:
    """To look at the manager from outside."""
    with closed(formed.manager) as client:
        yield client


def stanza(swarm: Swarm, **config: Any) -> dict[str, Any]:
    """What a kernelspec says besides its command."""
    config = {"image": IMAGE, "engine_url": swarm.url, "workspace": "none", **config}
    provisioner = {"provisioner_name": "container-swarm-provisioner", "config": config}
    return {"metadata": {"supported_encryption": ["curve"], "kernel_provisioner": provisioner}}


@pytest.fixture
async def start(swarm: Swarm, start_kernel: StartKernel) -> AsyncIterator[Start]:
    """A kernel of the swarm; keyword arguments are the stanza's."""

    kernels: list[Kernel] = []

    async def started(**config: Any) -> Kernel:
        kernels.append(await start_kernel(spec=stanza(swarm, **config)))
        return kernels[-1]

    yield started
    for kernel in kernels:  # by message: a swarm takes its time to kill one
        if kernel.manager.has_kernel:
            await kernel.manager.shutdown_kernel()


async def command_line(engine_url: str, *arguments: str) -> Ended:
    """``jupyter container-kernel --swarm …``"""
    return await asyncio.to_thread(command, "--engine-url", engine_url, "--swarm", *arguments)


async def node_of(kernel: Kernel) -> str:
    container = kernel.provisioner._container
    return str((await container.engine.inspect(container.identity.container_id)).node)


async def test_nobody_else_has_its_key(start: Start, there: docker.DockerClient):
    """Neither a service nor its container shows it, and the kernel's messages are encrypted."""
    kernel = await start(env={"TOKEN": "a-token"})
    assert await kernel.run("import os; os.environ['TOKEN']") == "'a-token'"
    key, curve = kernel.manager.session.key.decode(), kernel.manager.curve_secretkey
    assert curve
    service = there.api.inspect_service(kernel.container_id)
    secrets = there.api.secrets()
    assert len(secrets) == 2
    seen = json.dumps([service, secrets, there.api.tasks(), there.api.configs()])
    for secret in (key, curve.decode(), "a-token"):
        assert secret not in seen
    mode = "oct(os.stat('/run/kernel/connection.json').st_mode)"
    assert await kernel.run(mode) == "'0o100600'"


async def test_it_is_as_hard_as_a_service_can_be(
    swarm: Swarm, start: Start, there: docker.DockerClient
):
    """What can be seen from inside; what cannot is in the service's definition."""
    kernel = await start(
        memory_limit="200m",
        cpu_limit=0.5,
        pids_limit=100,
        shm_size="32m",
        memory_reservation="64m",
        cpu_reservation=0.1,
        placement_constraints=["node.hostname==manager"],
        placement_preferences=["node.labels.rack"],
    )
    status = await kernel.run("print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status
    assert "Seccomp:\t2" in status
    await kernel.run("import os, socket, subprocess")
    assert await kernel.run("os.getuid() != 0") == "True"
    assert "Read-only file system" in await kernel.run("open('/usr/x', 'w')")
    assert await kernel.run("open('x', 'w').write('mine'); os.getcwd()") == "'/home/kernel'"
    assert await kernel.run("os.statvfs('/dev/shm').f_blocks * 4096 == 32 * 1024**2") == "True"
    # Packets get out and nobody knows where to answer.
    worker = (swarm.worker.wire.there, 2376)
    connect = f"socket.create_connection({worker}, timeout=1)"
    assert "TimeoutError" in await kernel.run(connect)
    template = there.api.inspect_service(kernel.container_id)["Spec"]["TaskTemplate"]
    limits = {"NanoCPUs": 5 * 10**8, "MemoryBytes": 200 * 1024**2, "Pids": 100}
    assert template["Resources"] == {
        "Limits": limits,
        "Reservations": {"NanoCPUs": 10**8, "MemoryBytes": 64 * 1024**2},
    }
    assert template["Placement"]["Constraints"] == ["node.hostname==manager"]
    assert template["RestartPolicy"]["Condition"] == "none"
    assert await node_of(kernel) == "manager"
    container = there.containers.list()[0].attrs["HostConfig"]
    assert container["CapDrop"] == ["ALL"]
    assert container["ReadonlyRootfs"]
    assert container["PidsLimit"] == 100


async def test_it_is_controlled(start: Start):
    """Interrupted by message with its children, restarted, killed."""
    kernel = await start()
    await kernel.run("x = 1")
    request = kernel.client.execute(
        "import subprocess; print('begun', flush=True); subprocess.run(['sleep', '60'])",
        stop_on_error=False,
    )
    while (await kernel.client.get_iopub_msg(timeout=30))["msg_type"] != "stream":
        pass
    await kernel.provisioner.send_signal(2)  # what is a message then
    reply = await kernel.client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == request
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert await kernel.run("x") == "1"
    with pytest.raises(EngineError, match="cannot send signal 10"):
        await kernel.provisioner.send_signal(10)
    before = kernel.container_id
    await kernel.restart()
    assert kernel.container_id != before
    assert "NameError" in await kernel.run("x")
    await kernel.provisioner.terminate()
    assert await end_of(kernel) == 143


async def test_it_says_why_it_died(start: Start):
    kernel = await start(memory_limit="128m")
    await kernel.run("import os; os.system('echo its last words >/proc/1/fd/2')")
    kernel.client.execute("os._exit(7)")
    assert await end_of(kernel) == 7
    reason = kernel.provisioner.reason
    assert reason.startswith("The kernel died: it ended with exit code 7.")
    assert "its last words" in reason
    await kernel.restart()
    kernel.client.execute("hoard = bytearray(1024**3); hoard[::4096] = b'x' * len(hoard[::4096])")
    assert await end_of(kernel) == 137
    assert "most likely because it ran out of memory (memory_limit is 128 MiB)" in (
        kernel.provisioner.reason
    )


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({"image": ""}, ConfigurationError, "Set image"),
        ({"gpus": "1"}, ConfigurationError, "generic_resources"),
        ({"workspace": "rw"}, ConfigurationError, "any of its nodes"),
        ({"transport": "ipc"}, ConfigurationError, "any of its nodes"),
        (
            {"placement_constraints": ["node.labels.moon==full"], "start_timeout": 1.0},
            StartTimeout,
            "scheduling constraints not satisfied",
        ),
        (
            {"generic_resources": {"NVIDIA-GPU": "1"}, "start_timeout": 1.0},
            StartTimeout,
            "insufficient resources",
        ),
        ({"mounts": ["/no-such-path:/x"]}, KernelDied, "bind source path does not exist"),
        ({"network": "no-such-network"}, EngineError, "network no-such-network not found"),
    ],
    ids=["host", "gpus", "workspace", "ipc", "constraint", "resource", "mount", "network"],
)
async def test_what_cannot_be_is_said(
    start: Start, config: dict[str, Any], error: type[Exception], says: str
):
    """And nothing is left of it."""
    with pytest.raises(error, match=says):
        await start(**config)


async def test_a_node_without_the_image_is_named(start: Start, swarm: Swarm):
    """Its manager has it, and no registry does."""
    with closed(swarm.manager) as client:
        client.images.get(IMAGE).tag("here-only", "1")
        here_only = client.containers.create(IMAGE, "true")
        image = here_only.commit("here-only", "1").id
        here_only.remove()
    try:
        with pytest.raises(KernelDied, match=r"(?s)No such image.*node 'worker'"):
            await start(image=image, placement_constraints=["node.role==worker"])
    finally:
        with closed(swarm.manager) as client:
            client.images.remove(image, force=True)


async def test_who_manages_no_swarm_is_told(swarm: Swarm, start_kernel: StartKernel):
    spec = stanza(swarm, engine_url=swarm.worker.url)
    with pytest.raises(EngineMismatch, match="no manager of a swarm"):
        await start_kernel(spec=spec)


async def test_a_kept_one_is_taken_over(
    swarm: Swarm,
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    successor: Successor,
):
    """After ``kill -9`` of its owner, with its variables; the command line sees it meanwhile."""
    kernelspec(spec=stanza(swarm, on_server_exit="keep"))
    owner = start_owner(code="print('noise')")
    owner.die()
    (listed,) = (await command_line(swarm.url, "ps", "--json")).json
    assert (listed["kernel_id"], listed["state"]) == (owner.kernel_id, "kept")
    assert listed["node"] in swarm.nodes()
    assert (await command_line(swarm.url, "logs", owner.kernel_id)).code == 0
    inspected = (await command_line(swarm.url, "inspect", "--json", owner.kernel_id)).json
    assert inspected["published"]["28501"].startswith("10.214.")
    kernel = await successor.adopt(owner.kernel_id)
    await kernel.ready()
    assert await kernel.run("x") == "1"
    await kernel.restart()
    assert "NameError" in await kernel.run("x")
    await kernel.manager.shutdown_kernel()


async def test_it_is_installed_and_examined(swarm: Swarm, prefix: Path):
    """From the image alone; each time a kernel is started for it and leaves nothing."""
    limits = ("--set", "memory_reservation=64m")
    folder = ("--prefix", str(prefix), "--no-check")
    assert (await command_line(swarm.url, "install", *folder, *limits, IMAGE)).code == 0
    ((name, spec),) = installed(prefix).items()
    assert name.endswith("-swarm")
    assert spec["display_name"].endswith(" (swarm)")
    assert spec["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "container-swarm-provisioner",
        "config": {"image": IMAGE, "engine_url": swarm.url, "memory_reservation": "64m"},
    }
    done = await command_line(swarm.url, "doctor", name)
    assert (done.code, done.stderr) == (0, "")
    assert "Docker 20" not in done.stdout
    assert "notebook's folder not there" in done.stdout
    assert "on a node, found at 10.214." in done.stdout
    assert "kernel: python" in done.stdout
    assert "the nodes of a swarm" in (await command_line(swarm.url, "doctor")).stdout


def test_the_others_end_with_their_owner(
    swarm: Swarm, kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
):
    kernelspec(spec=stanza(swarm))
    owner = start_owner()
    assert swarm.left()
    owner.die()
    eventually(lambda: swarm.left() == [], "the guard to remove it")
    eventually(lambda: left_below(runtime_dir)[1:] == [], "its files to go")


async def test_what_is_left_of_a_removal_is_pruned(start: Start, there: docker.DockerClient):
    """A service was removed by its owner, who was killed before its secrets were."""
    kernel = await start()
    secret = there.api.secrets()[0]["Spec"]
    dead = {**secret["Labels"], labels.OWNER: "nobody", labels.SERVICE: "gone"}
    dead[labels.KERNEL_ID] = "no-kernel"
    left = there.secrets.create(name="left", data=b"x", labels=dead)
    engine = kernel.provisioner._container.engine
    pruned = await prune(engine, logging.getLogger(__name__))
    assert [leftover.name for leftover in pruned.removed] == ["no-kernel"]
    assert left.id not in [item["ID"] for item in there.api.secrets()]
    assert await kernel.run("1 + 1") == "2"


async def test_a_node_that_came_back(swarm: Swarm, start: Start, caplog: pytest.LogCaptureFixture):
    """It died with a kernel on it, and its engine does not get over that while the swarm's network
    is the same one: kernels go to others, and what cures it is said."""
    on_worker = {"placement_constraints": ["node.role==worker"]}
    lost = await start(**on_worker)
    with swarm.lost():
        await end_of(lost)
        await lost.manager.shutdown_kernel()
    eventually(lambda: swarm.left_on_nodes() == [], "the kernel's container to go")
    with pytest.raises(
        StartTimeout, match=r"One refused it: network \w+ exists on node 'worker', because it died"
    ):
        await start(start_timeout=3.0, **on_worker)
    caplog.clear()
    kernels = [await start() for _ in range(2)]  # one each, were there two nodes
    assert [await node_of(kernel) for kernel in kernels] == ["manager", "manager"]
    assert "exists on node 'worker'" in caplog.text
    for kernel in kernels:
        await kernel.manager.shutdown_kernel()
    eventually(lambda: swarm.left() == [], "the network to be left")
    swarm.make_network()
    kernel = await start(**on_worker)
    assert await kernel.run("1 + 1") == "2"


async def test_a_lost_node(swarm: Swarm, kernelspec: WriteKernelspec, folder: Path):
    """Its kernels are dead, for a reason with its name, and start again on the other node under
    the same ids. The other node's never notice."""
    name = kernelspec(spec=stanza(swarm))
    managers = [AsyncIOLoopKernelManager(kernel_name=name) for _ in range(4)]
    restarted: list[str] = []
    kernels: list[Kernel] = []
    try:
        await asyncio.gather(*(manager.start_kernel(cwd=str(folder)) for manager in managers))
        kernels += [Kernel(manager, manager.client()) for manager in managers]
        for kernel in kernels:
            kernel.client.start_channels()
            await kernel.ready()
            await kernel.run("x = 1")
            manager, kernel_id = kernel.manager, str(kernel.manager.kernel_id)
            manager.add_restart_callback(partial(restarted.append, kernel_id), "restart")
        at = {kernel.manager.kernel_id: await node_of(kernel) for kernel in kernels}
        assert sorted(at.values()) == ["manager", "manager", "worker", "worker"]
        lost = {kernel_id for kernel_id, node in at.items() if node == "worker"}
        containers = {kernel.manager.kernel_id: kernel.container_id for kernel in kernels}
        with swarm.lost():
            await until(lambda: set(restarted) == lost)
            for kernel in kernels:
                if kernel.manager.kernel_id in lost:
                    await until(lambda kernel=kernel: _is_new(kernel, containers))
                    assert "its node 'worker' was lost to the swarm" in kernel.provisioner.reason
                    kernel.reconnect()
                    await kernel.ready()
                    assert "NameError" in await kernel.run("x")
                    assert await node_of(kernel) == "manager"
                else:
                    assert await kernel.run("x") == "1"
                    assert kernel.container_id == containers[kernel.manager.kernel_id]
            assert {kernel.manager.kernel_id for kernel in kernels} == set(at)
        assert sorted(restarted) == sorted(lost)
    finally:
        for kernel in kernels:
            kernel.client.stop_channels()
        await asyncio.gather(*(manager.shutdown_kernel() for manager in managers))


def _is_new(kernel: Kernel, containers: dict[str, str]) -> bool:
    container = kernel.provisioner._container
    has_run = container is not None and container.status is None
    return has_run and kernel.container_id != containers[kernel.manager.kernel_id]


def test_the_example(swarm: Swarm, place: Place):
    place.run("examples/swarm/README.md", "examples/swarm", ENGINE=swarm.url, IMAGE=IMAGE)


def test_over_an_overlay_network(swarm: Swarm, there: docker.DockerClient, server_image: str):
    """Where the server is in it, a container too, no port is published on any node."""
    swarm.manager.load(server_image)
    network = there.networks.create("kernels", driver="overlay", attachable=True)
    script = Path(__file__).with_name("overlay_server.py").read_text()
    try:
        for node in swarm.nodes():
            said = there.containers.run(
                server_image,
                ["python", "-c", script, IMAGE, network.name, f"node.hostname=={node}"],
                user="0",
                network=network.name,
                volumes={f"{swarm.manager.base}/docker.sock": {"bind": "/var/run/docker.sock"}},
                remove=True,
            )
            assert json.loads(said) == {"said": "42", "encrypted": True, "published": []}
    finally:
        eventually(lambda: _is_removed(network), "the network to be left by its containers")


def _is_removed(network: Any) -> bool:
    try:
        network.remove()
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError:  # a task's end takes its time
        return False
    return True
