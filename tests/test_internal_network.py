"""A kernel that speaks tcp in the sandbox: a network without a way out, while it is needed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest

from container_provisioner import labels
from container_provisioner.engine.calls import Engine
from container_provisioner.engine.docker_engine import DockerEngine
from container_provisioner.errors import EngineError
from container_provisioner.internal_network import ensure_internal_network, remove_internal_network

from .conftest import IMAGE, PLAIN_IMAGE, Kernel, StartKernel, WriteKernelspec
from .docker_url import DOCKER_URL
from .ends import until
from .orphans import adopted, orphan_of
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .seen import seen

pytestmark = [pytest.mark.docker, pytest.mark.alone]

NAME = labels.INTERNAL_NETWORK
TCP: dict[str, Any] = {"image": IMAGE, "transport": "tcp"}

REACHED = """
import socket
from concurrent.futures import ThreadPoolExecutor
def connect(address):
    with socket.socket() as client:
        client.settimeout(3)
        try:
            client.connect(address)
        except OSError as exc:
            return type(exc).__name__
        return "connected"

def look_up(name):
    try:
        return socket.gethostbyname(name)
    except OSError as exc:
        return type(exc).__name__

with ThreadPoolExecutor() as pool:
    seen = dict(zip(ADDRESSES, pool.map(connect, ADDRESSES.values())))
seen["a name"] = look_up("debian.org")
seen["interfaces"] = sorted(name for _, name in socket.if_nameindex())
seen["IPv6"] = open("/proc/net/if_inet6").read()
"""
SERVER = "import socket; server = socket.create_server(('0.0.0.0', 8000)); print('serves', end='')"


@pytest.fixture(autouse=True)
def no_network_left(docker_client: docker.DockerClient) -> Iterator[Callable[[], list[str]]]:
    """Nor is there one before."""

    def there() -> list[str]:
        return [str(network.id) for network in docker_client.networks.list(names=[NAME])]

    assert there() == []
    yield there
    assert there() == []


@pytest.fixture
async def engines() -> AsyncIterator[list[Engine]]:
    """As of three processes."""
    with ExitStack() as stack:
        made = [Engine(DockerEngine(DOCKER_URL)) for _ in range(3)]
        for engine in made:
            stack.callback(engine.close)
        yield made


async def test_a_sandboxed_kernel_over_tcp_reaches_nobody(start_kernel: StartKernel):
    """But what this machine serves on all its addresses, as the help of ``network`` says."""
    one, other = await asyncio.gather(start_kernel(**TCP), start_kernel(**TCP))
    address = other.manager.get_connection_info()["ip"]
    assert await other.run(SERVER) == "serves"
    with (
        socket.create_connection((address, 8000), timeout=5),  # that is how messages get there
        socket.create_server(("0.0.0.0", 0)) as on_all,
        socket.create_server(("127.0.0.1", 0)) as on_loopback,
    ):
        bridge = f"{address.rpartition('.')[0]}.1"
        addresses = {
            "outside": ("192.0.2.1", 80),
            "a well-known one": ("1.1.1.1", 443),
            "the other kernel": (address, 8000),
            "its channels": (address, other.manager.get_connection_info()["shell_port"]),
            "loopback": (bridge, on_loopback.getsockname()[1]),
            "all addresses": (bridge, on_all.getsockname()[1]),
        }
        found = await seen(one, REACHED.replace("ADDRESSES", repr(addresses)))
    assert found.pop("outside") in ("TimeoutError", "OSError")
    assert found.pop("a well-known one") in ("TimeoutError", "OSError")
    assert found == {
        "the other kernel": "TimeoutError",
        "its channels": "TimeoutError",
        "loopback": "ConnectionRefusedError",
        "all addresses": "connected",
        "a name": "gaierror",
        "interfaces": ["eth0", "lo"],
        "IPv6": "",
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root changes the firewall")
async def test_a_rule_of_the_firewall_closes_the_way_to_this_machine(start_kernel: StartKernel):
    """The one that the help of ``network`` names; messages do not mind."""
    rule = f"INPUT -i {labels.INTERNAL_BRIDGE} -m conntrack --ctstate NEW -j REJECT"
    kernel = await start_kernel(**TCP)
    assert f"iptables -I {rule}" in " ".join(type(kernel.provisioner).network.help.split())
    bridge = f"{kernel.manager.get_connection_info()['ip'].rpartition('.')[0]}.1"
    with socket.create_server(("0.0.0.0", 0)) as server:
        addresses = {"this machine": (bridge, server.getsockname()[1])}
        code = REACHED.replace("ADDRESSES", repr(addresses))
        subprocess.run(["iptables", "-I", *rule.split()], check=True)
        try:
            assert (await seen(kernel, code))["this machine"] == "ConnectionRefusedError"
            kernel.reconnect()
            await kernel.ready()
        finally:
            subprocess.run(["iptables", "-D", *rule.split()], check=True)
        assert (await seen(kernel, code))["this machine"] == "connected"


async def test_names_are_asked_of_nobody(
    start_kernel: StartKernel, docker_client: docker.DockerClient
):
    """The host's resolver would pass on what a kernel wants to tell: CVE-2024-29018."""
    kernel = await start_kernel(**TCP)
    body = docker_client.api.inspect_container(kernel.container_id)
    assert body["HostConfig"]["Dns"] == ["127.0.0.1"]
    assert body["HostConfig"]["PortBindings"] == {}
    assert "timeout:1 attempts:1" in await kernel.run("print(open('/etc/resolv.conf').read())")


async def test_a_kernel_is_told_from_outside_and_restarts(
    start_kernel: StartKernel, docker_client: docker.DockerClient
):
    """F1, F21: in its container and in a new one."""
    kernel = await start_kernel(**TCP)
    assert kernel.manager.get_connection_info()["ip"] != "127.0.0.1"
    container_id = kernel.container_id
    await kernel.run("x = 1")
    await kernel.restart(now=True)
    assert kernel.container_id == container_id
    kernel.provisioner.restart_mode = "recreate"
    await kernel.restart()
    assert kernel.container_id != container_id
    assert "NameError" in await kernel.run("x")
    (network,) = docker_client.networks.list(names=[NAME], greedy=True)
    assert network.attrs["Internal"] is True
    assert list(network.attrs["Containers"]) == [kernel.container_id]


async def test_a_network_that_was_removed_under_a_dead_kernel_is_made_again(
    start_kernel: StartKernel,
    docker_client: docker.DockerClient,
    our_containers: Callable[[], list[str]],
):
    """``docker network prune`` takes it while no container runs in it."""
    kernel = await start_kernel(**TCP)
    container = docker_client.containers.get(kernel.container_id)
    container.kill()
    container.wait()
    docker_client.networks.get(NAME).remove()
    await kernel.restart(now=True)
    assert await kernel.run("6 * 7") == "42"
    assert len(our_containers()) == 1


async def test_it_is_removed_with_the_last_of_its_kernels(
    start_kernel: StartKernel, no_network_left: Callable[[], list[str]]
):
    one, other = await asyncio.gather(start_kernel(**TCP), start_kernel(**TCP))
    (network,) = no_network_left()
    await one.manager.shutdown_kernel()
    assert no_network_left() == [network]
    await other.manager.shutdown_kernel()
    assert no_network_left() == []


async def test_it_is_removed_after_a_start_that_failed(start_kernel: StartKernel):
    with pytest.raises(RuntimeError, match="exit code 3"):
        await start_kernel(**TCP, argv=["sh", "-c", "exit 3"])


async def test_it_is_removed_after_the_death_of_its_kernels_owner(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    no_network_left: Callable[[], list[str]],
):
    kernelspec(**TCP)
    owner = start_owner()
    assert owner.container is not None
    assert len(no_network_left()) == 1
    owner.die()
    await until(lambda: owner.container is None)
    await until(lambda: not no_network_left())


async def test_a_kept_kernel_is_found_at_another_address(
    kernelspec: WriteKernelspec, folder: Path, docker_client: docker.DockerClient, engines: Any
):
    """F21"""
    kernelspec(**TCP, on_server_exit="keep", profile="dev", network="internal")
    async with orphan_of(folder, docker_client) as orphan:
        async with adopted(orphan.kernel_id) as manager:
            assert manager.provisioner.reason == ""
        orphan.container.stop(timeout=0)
        blocker = docker_client.containers.run(
            PLAIN_IMAGE, ["sleep", "300"], network=NAME, detach=True
        )
        try:
            orphan.container.start()
            await until(lambda: orphan.container.logs().count(b"To connect another client") == 2)
            before = json.loads(orphan.record_file.read_text())["connection_info"]
            async with adopted(orphan.kernel_id) as manager:
                assert "was restarted" in manager.provisioner.reason
                after = manager.get_connection_info()
                assert after["ip"] != before["ip"]
                client = manager.client()
                client.start_channels()
                assert "NameError" in await Kernel(manager, client).run("x")
                client.stop_channels()
        finally:
            blocker.remove(force=True)
    assert await remove_internal_network(engines[0]) is True


async def test_of_several_processes_that_make_it_all_have_the_same(
    engines: list[Engine], no_network_left: Callable[[], list[str]]
):
    await asyncio.gather(*(ensure_internal_network(engine) for engine in engines * 4))
    assert len(no_network_left()) == 1
    gone = await asyncio.gather(*(remove_internal_network(engine) for engine in engines))
    assert any(gone)
    assert await remove_internal_network(engines[0]) is False


async def test_several_processes_may_make_and_remove_it_at_once(engines: list[Engine]):
    """Whoever was told that it is there may see it go; no other error comes of that."""

    async def live(engine: Engine) -> None:
        for _ in range(5):
            await ensure_internal_network(engine)
            await remove_internal_network(engine)

    await asyncio.gather(*map(live, engines))


async def test_a_network_that_somebody_else_has_made_is_not_taken_for_it(
    start_kernel: StartKernel,
    docker_client: docker.DockerClient,
    engines: list[Engine],
    our_containers: Callable[[], list[str]],
):
    network = docker_client.networks.create(NAME)  # with a way out
    try:
        with pytest.raises(EngineError, match=f"a network '{NAME}' that is not this package's"):
            await start_kernel(**TCP)
        assert our_containers() == []
        assert await remove_internal_network(engines[0]) is False
    finally:
        network.remove()
