"""Containers that wait, on the fake engine.

Standby's part is played by a thread: it offers the socket, and answers, or does not.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.command import PRIVATE_DIR, SOCKETS_DIR
from container_provisioner.definition import LaunchRequest
from container_provisioner.engine.calls import Engine
from container_provisioner.store import Offer, Offers
from container_provisioner.templates import provisioner_of, template
from container_provisioner.warm import WarmPool, pool
from container_provisioner.warm.specification import CLAIM_SOCKET, STANDBY

from ..conftest import IPYKERNEL
from ..fake_container import FakeContainer, open_sockets
from .conftest import KERNEL, Launches, until

KERNEL_ID = "of-this-test"

Answer = Callable[[socket.socket], None]


def answers(claimant: socket.socket) -> None:
    claimant.sendall(b'{"status": "ok"}\n')


def says_nonsense(claimant: socket.socket) -> None:
    claimant.sendall(b"1\n")


def says_too_much(claimant: socket.socket) -> None:
    claimant.sendall(b"1" * 2**17)


def ends(claimant: socket.socket) -> None:
    """Without a word."""


def hangs(claimant: socket.socket) -> None:
    claimant.recv(1)  # until the other one gives up


class Standby:
    """What runs in the fake's containers."""

    def __init__(self, launches: Launches) -> None:
        self.fake, self.answer = launches.fake, answers
        self.fake.on_start = self.start
        self.fake.before["start"] = self.replace_commands  # which are of no use on this host

    def replace_commands(self) -> None:
        for container in self.fake.containers.values():
            if container.state == "created":
                waits = f"{PRIVATE_DIR}/{STANDBY}" in container.spec.argv
                assert waits == (labels.WARM in container.spec.labels)
            container.spec = replace(container.spec, argv=tuple(KERNEL))

    def start(self, container: FakeContainer) -> None:
        open_sockets(container)
        if labels.WARM in container.spec.labels:
            (sockets,) = (m.source for m in container.spec.mounts if m.target == SOCKETS_DIR)
            threading.Thread(target=self.wait, args=(container, Path(sockets)), daemon=True).start()

    def wait(self, container: FakeContainer, sockets: Path) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(0.05)
            listener.bind(str(sockets / ".claim"))
            listener.listen(1)
            (sockets / ".claim").rename(sockets / CLAIM_SOCKET)
            while container.runs:
                with contextlib.suppress(TimeoutError):
                    claimant, _ = listener.accept()
                    with claimant:
                        claimant.settimeout(30)
                        self.answer(claimant)
                    return


@pytest.fixture(name="standby")
def standby_fixture(launches: Launches, monkeypatch: pytest.MonkeyPatch) -> Standby:
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)
    return Standby(launches)


async def asked_for(
    launches: Launches, manager: AsyncKernelManager
) -> tuple[LaunchRequest, Engine]:
    """What a pool is told of such kernels."""
    of_nobody = AsyncKernelManager(kernel_name=manager.kernel_name)
    provisioner = provisioner_of(of_nobody)
    assert provisioner is not None
    return await template(of_nobody, provisioner, cwd=str(launches.folder))


@asynccontextmanager
async def one_waits(launches: Launches, **stanza: Any) -> AsyncIterator[tuple[Offer, Any]]:
    """Yields the first, and a manager that has started nothing yet. Nobody refills the pool."""
    stanza = {"argv": IPYKERNEL, "warm_pool_size": 1, **stanza}
    manager = launches.manager(kernel_id=KERNEL_ID, **stanza)
    keeper = WarmPool(logging.getLogger("jupyter"), limit=8, memory_limit=2**30, max_age=600)
    keeper.want(*await asked_for(launches, manager), lasting=True)
    await until(lambda: len(Offers().all()) == stanza["warm_pool_size"])
    assert keeper._task is not None
    keeper._task.cancel()
    try:
        yield Offers().all()[0], manager
    finally:
        await keeper.close()
