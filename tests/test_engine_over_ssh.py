"""An engine that is reached over ssh, as the user reaches its host."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from container_provisioner.engine.find import close_engines, open_engine
from container_provisioner.errors import EngineError

from .conftest import IMAGE, StartKernel, WriteKernelspec
from .owners import StartOwner, assert_controlled, start_owner_fixture  # noqa: F401 - a fixture
from .remote_engine import RemoteEngine
from .server_process import eventually

pytestmark = pytest.mark.docker


@pytest.fixture
def over_ssh(remote: RemoteEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with remote.over_ssh(monkeypatch) as url:
        eventually(lambda: not socket.socket().connect_ex((remote.wire.there, 22)), "sshd")
        yield url
    close_engines()
    eventually(lambda: tunnels() == [], "the guard's tunnel to go, too")


def tunnels() -> list[Path]:
    """Folders of forwarded sockets."""
    return list(Path(tempfile.gettempdir()).glob("container-provisioner-ssh-*"))


async def test_it_is_reached_over_ssh(
    over_ssh: str, there: docker.DockerClient, start_kernel: StartKernel
):
    kernel = await start_kernel(image=IMAGE, engine_url=over_ssh)
    assert len(there.containers.list()) == 1
    await assert_controlled(kernel)
    assert len(tunnels()) == 1
    assert stat.S_IMODE(tunnels()[0].stat().st_mode) == 0o700


async def test_a_tunnel_that_ended_is_opened_again(
    over_ssh: str, there: docker.DockerClient, start_kernel: StartKernel
):
    kernel = await start_kernel(image=IMAGE, engine_url=over_ssh)
    engine = await open_engine("auto", over_ssh)
    shell = engine.adapter._tunnel._process.pid  # type: ignore[attr-defined]
    (ssh,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    os.kill(int(ssh), signal.SIGKILL)
    await kernel.run("x = 1")  # goes another way
    await assert_controlled(kernel)


def test_the_guard_comes_over_ssh_too(
    over_ssh: str,
    kernelspec: WriteKernelspec,
    there: docker.DockerClient,
    start_owner: StartOwner,
    runtime_dir: Path,
):
    """And the owner's own tunnel goes with it, by SIGKILL or not."""
    kernelspec(image=IMAGE, engine_url=over_ssh)
    owner = start_owner()
    assert len(there.containers.list()) == 1
    owner.die()
    eventually(lambda: there.containers.list(all=True) == [], "the guard to remove it")
    eventually(lambda: tunnels() == [], "both tunnels to go")


async def test_what_ssh_says_is_passed_on(over_ssh: str, start_kernel: StartKernel):
    with pytest.raises(EngineError, match=r"ssh says: .*no-such-host"):
        await start_kernel(image=IMAGE, engine_url="ssh://no-such-host.invalid")
    assert tunnels() == []
