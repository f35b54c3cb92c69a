"""F23: ports of the engine's host that others have are no obstacle."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import Any

import docker
import pytest

from .conftest import IMAGE, Kernel, StartKernel

TCP: dict[str, Any] = {"image": IMAGE, "transport": "tcp", "network": "bridge"}
PORTS = 5


def published(client: docker.DockerClient, kernel: Kernel) -> set[int]:
    ports = client.containers.get(kernel.container_id).ports
    return {int(at["HostPort"]) for bindings in ports.values() for at in bindings or ()}


@pytest.mark.docker
@pytest.mark.alone  # somebody else's start would take the ports that are taken here
async def test_the_next_ports_are_taken(
    start_kernel: StartKernel, docker_client: docker.DockerClient
):
    """Docker chooses them one after the other; whoever listens there is nobody it knows."""
    first = await start_kernel(**TCP)
    last = max(published(docker_client, first))
    taken = set()
    with ExitStack() as sockets:
        for port in range(last + 1, last + PORTS + 1):
            with suppress(OSError):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
                taken.add(port)
        assert taken
        second = await start_kernel(**TCP)
        assert not published(docker_client, second) & taken
        assert await second.run("6 * 7") == "42"
    assert await first.run("6 * 7") == "42"
