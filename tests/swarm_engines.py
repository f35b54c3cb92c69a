"""Engines on "other hosts" that form a swarm: a namespace each, and one for the switch.

The switch is a bridge in a namespace of its own, so that no firewall of this host, or of Docker's
on it, has a say in what the nodes send each other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import docker

from container_provisioner import labels

from .remote_engine import RemoteEngine, Wire, free_subnet, run
from .server_process import eventually

CONFIG = "jupyter-kernels"
_NO_WAY_OUT = ("enable_ip_masquerade", "enable_icc")
NETWORKS = (
    *("bridge", "host", "none", "docker_gwbridge", "ingress"),
    *(CONFIG, labels.SWARM_NETWORK),
)

HEARTBEAT = 10**9  # nanoseconds; a swarm gives a node up after three that did not come


@contextmanager
def switch(number: int, nodes: int) -> Iterator[list[Wire]]:
    """A wire to each of so many namespaces, which reach each other and this host."""
    name = f"cps{os.getpid() % 100000}-{number}"
    subnet = free_subnet("10.214")
    namespaces = [name, *(f"{name}-{index}" for index in range(nodes))]
    wires = []
    try:
        for namespace in namespaces:
            run("ip", "netns", "add", namespace)
        bridge = ("ip", "-n", name)
        run(*bridge, "link", "add", "br0", "up", "type", "bridge")
        run("ip", "link", "add", f"{name}h", "type", "veth", "peer", "host", "netns", name)
        run("ip", "address", "add", f"{subnet}.1/24", "dev", f"{name}h")
        run("ip", "link", "set", f"{name}h", "up")
        run(*bridge, "link", "set", "host", "master", "br0", "up")
        for index, namespace in enumerate(namespaces[1:]):
            port, address = f"port{index}", f"{subnet}.{index + 2}"
            run(*bridge, "link", "add", port, *_pair("eth0", namespace))
            run(*bridge, "link", "set", port, "master", "br0", "up")
            node = ("ip", "-n", namespace)
            run(*node, "address", "add", f"{address}/24", "dev", "eth0")
            run(*node, "link", "set", "eth0", "up")
            run(*node, "link", "set", "lo", "up")
            run(*node, "route", "add", "default", "via", f"{subnet}.1")
            wires.append(
                Wire(namespace=namespace, interface=port, here=f"{subnet}.1", there=address)
            )
        yield wires
    finally:
        for namespace in reversed(namespaces):
            with suppress(subprocess.CalledProcessError):  # it was not made
                run("ip", "netns", "delete", namespace)
        with suppress(subprocess.CalledProcessError):  # gone with its peer, mostly
            run("ip", "link", "delete", f"{name}h")


def _pair(peer: str, namespace: str) -> tuple[str, ...]:
    return "type", "veth", "peer", peer, "netns", namespace


class Swarm:
    """A manager and a worker. `url` is what ``engine_url`` takes."""

    def __init__(self, manager: RemoteEngine, worker: RemoteEngine) -> None:
        self.manager, self.worker = manager, worker
        self.url = manager.url

    def form(self) -> None:
        with closed(self.manager) as here, closed(self.worker) as there:
            here, there = here.api, there.api
            address = self.manager.wire.there
            spec = here.create_swarm_spec(dispatcher_heartbeat_period=HEARTBEAT)
            here.init_swarm(advertise_addr=address, listen_addr=f"{address}:2377", swarm_spec=spec)
            there.join_swarm(
                remote_addrs=[f"{address}:2377"],
                join_token=here.inspect_swarm()["JoinTokens"]["Worker"],
                advertise_addr=self.worker.wire.there,
                listen_addr=f"{self.worker.wire.there}:2377",
            )
            self.until_ready()
            options = {f"com.docker.network.bridge.{name}": "false" for name in _NO_WAY_OUT}
            for client in (here, there):
                _make_network(client, Name=CONFIG, ConfigOnly=True, Options=options)
        self.make_network()

    def make_network(self) -> None:
        """Anew, where there is one."""
        name, source = labels.SWARM_NETWORK, {"Network": CONFIG}
        with closed(self.manager) as client:
            for network in client.networks.list(names=[f"^{name}$"]):
                network.remove()
            _make_network(client.api, Name=name, Scope="swarm", Driver="bridge", ConfigFrom=source)

    def until_ready(self) -> None:
        with closed(self.manager) as client:

            def ready() -> bool:
                return [node["Status"]["State"] for node in client.api.nodes()] == ["ready"] * 2

            eventually(ready, "both nodes to be ready")

    def nodes(self) -> dict[str, RemoteEngine]:
        """By their hostnames."""
        return {engine.hostname: engine for engine in (self.manager, self.worker)}

    def left(self) -> list[Any]:
        """What is in the swarm, and was not there at first."""
        with closed(self.manager) as client:
            found = client.services.list() + client.secrets.list() + client.configs.list()
            return [*found, *(n.name for n in client.networks.list() if n.name not in NETWORKS)]

    def left_on_nodes(self) -> list[Any]:
        """The same of its nodes, which take some seconds to remove a container."""
        found: list[Any] = []
        for engine in (self.manager, self.worker):
            with closed(engine) as client:
                found += [c.name for c in client.containers.list(all=True, ignore_removed=True)]
                found += client.volumes.list()
                found += [n.name for n in client.networks.list() if n.name not in NETWORKS]
        return found

    @contextmanager
    def lost(self) -> Iterator[None]:
        """The worker dies, with all that runs on it, and comes back in the end."""
        with closed(self.worker) as client:
            pids = [c.attrs["State"]["Pid"] for c in client.containers.list()]
        containerd = int((self.worker.base / "exec/containerd/containerd.pid").read_text())
        self.worker.stop(signal.SIGKILL)
        for pid in (containerd, *pids):
            os.kill(pid, signal.SIGKILL)
        try:
            yield
        finally:
            self.worker.start()
            self.until_ready()


def _make_network(client: Any, **fields: Any) -> None:
    """The SDK does not know these fields."""
    client._result(client._post_json(client._url("/networks/create"), data=fields))


@contextmanager
def closed(engine: RemoteEngine) -> Iterator[docker.DockerClient]:
    """A client, for as long as the context."""
    client = engine.client()
    try:
        yield client
    finally:
        client.close()


def _at_once(do: Callable[[RemoteEngine], None], engines: list[RemoteEngine]) -> None:
    with ThreadPoolExecutor() as threads:
        list(threads.map(do, engines))


def _start(images: tuple[str, ...], engine: RemoteEngine) -> None:
    engine.start()
    engine.load(*images)


@contextmanager
def swarm(*images: str, number: int = 1) -> Iterator[Swarm]:
    """Runs for as long as the context; each node has the images."""
    assert os.getuid() == 0, "a network namespace needs root"
    bases = [Path(tempfile.mkdtemp(prefix="cps-", dir="/tmp")) for _ in range(2)]
    with ExitStack() as undo:
        wires = undo.enter_context(switch(number, len(bases)))
        engines = [
            RemoteEngine(base, wire, hostname=name)
            for base, wire, name in zip(bases, wires, ("manager", "worker"), strict=True)
        ]
        undo.callback(_at_once, RemoteEngine.remove_files, engines)
        undo.callback(_at_once, RemoteEngine.stop, engines)
        _at_once(partial(_start, images), engines)
        formed = Swarm(*engines)
        formed.form()
        yield formed
        with closed(formed.manager) as client:  # what a failed test has left
            for service in client.services.list():
                service.remove()
