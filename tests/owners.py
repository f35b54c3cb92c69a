"""Processes that start a kernel and die, and what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import docker
import pytest

from container_provisioner import labels
from container_provisioner.guard import client as guard

from .conftest import Kernel

SCRIPT = """
import json, sys
from container_provisioner.guard import client as guard
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_client.multikernelmanager import MultiKernelManager
from traitlets.config import Config

given = json.loads(sys.argv[1])
guard._BOOT = given["guard"]
managers = MultiKernelManager(
    connection_dir=jupyter_runtime_dir(),  # as a server does
    config=Config({"KernelManager": given["manager"]}),
)
kernel_id = managers.start_kernel(kernel_name="contained", cwd=given["folder"], **given["launch"])
client = managers.get_kernel(kernel_id).client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("x = 1", timeout=60)
client.execute(given["code"])
while given["code"] and client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
    pass
print(kernel_id, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Owner:
    """A process that has a kernel in which ``x`` is 1."""

    process: subprocess.Popen[str]
    kernel_id: str
    docker_client: docker.DockerClient

    @property
    def container(self) -> Any:
        """The kernel's, as it is now; None when there is none."""
        return find(self.docker_client, self.kernel_id)

    def die(self) -> None:
        """By SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """As a script does that forgets to shut its kernel down."""
        self.process.communicate(timeout=60)


class StartOwner(Protocol):
    def __call__(
        self, *, code: str = "", manager: dict[str, Any] | None = None, **launch: Any
    ) -> Owner:
        """`code` is run, too, and still runs when it has printed something.

        `manager`: the kernel manager's traits; `launch`: for `start_kernel`.
        """
        ...


@contextmanager
def owners(folder: Path, docker_client: docker.DockerClient) -> Iterator[StartOwner]:
    """Starts owners of kernels of the kernelspec ``contained``; they are gone at the end."""
    started: list[Owner] = []

    def start(*, code: str = "", manager: dict[str, Any] | None = None, **launch: Any) -> Owner:
        given = {
            "folder": str(folder),
            "code": code,
            "manager": manager or {},
            "launch": launch,
            "guard": guard._BOOT,  # that of a `hasty_guard`, it may be
        }
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        started.append(Owner(process, process.stdout.readline().strip(), docker_client))
        return started[-1]

    try:
        yield start
    finally:
        for owner in started:
            owner.process.kill()
            owner.process.communicate()


@pytest.fixture(name="start_owner")
def start_owner_fixture(
    folder: Path, runtime_dir: Path, docker_client: docker.DockerClient
) -> Iterator[StartOwner]:
    with owners(folder, docker_client) as start:
        yield start


def find(docker_client: docker.DockerClient, kernel_id: str) -> Any:
    """The kernel's container; None when there is none."""
    label = f"{labels.KERNEL_ID}={kernel_id}"
    found = docker_client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
    return found[0] if found else None


async def assert_controlled(kernel: Kernel) -> None:
    """A cell can be interrupted; a restart, in the same container, forgets ``x``."""
    container_id = kernel.container_id
    request = kernel.client.execute("print('started')\nwhile True: pass")
    while (await kernel.client.get_iopub_msg(timeout=30))["msg_type"] != "stream":
        pass
    await kernel.manager.interrupt_kernel()
    reply = await kernel.client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == request
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    await kernel.restart()
    assert "NameError" in await kernel.run("x")
    assert kernel.container_id == container_id
