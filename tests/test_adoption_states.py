"""A kernel is adopted as it is found: paused, too busy to answer, restarted behind our back."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import docker
import pytest

from container_provisioner import greeting
from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.store import KernelDirectory

from .conftest import Kernel, WriteKernelspec
from .ends import until
from .orphans import Orphan, adopted, orphan_of, try_to_adopt

pytestmark = pytest.mark.docker

TCP = {"profile": "dev", "transport": "tcp"}


class Orphaned(Protocol):
    """Start a kernel with these settings, and let go of it."""

    def __call__(self, **stanza: Any) -> AbstractAsyncContextManager[Orphan]: ...


@pytest.fixture
def orphaned(
    kernelspec: WriteKernelspec, folder: Path, docker_client: docker.DockerClient
) -> Orphaned:
    def start(**stanza: Any) -> AbstractAsyncContextManager[Orphan]:
        kernelspec(**stanza, on_server_exit="keep")
        return orphan_of(folder, docker_client)

    return start


async def says(manager: Any, code: str) -> str:
    """What a client of the manager is told."""
    kernel = Kernel(manager, manager.client())
    kernel.client.start_channels()
    try:
        await kernel.ready()
        return await kernel.run(code)
    finally:
        kernel.client.stop_channels()


async def restart_from_outside(orphan: Orphan) -> None:
    """Until the kernel has begun again."""
    orphan.container.restart(timeout=0)
    await until(lambda: orphan.container.logs().count(b"To connect another client") == 2)


async def test_a_paused_kernel_is_adopted_and_says_so(orphaned: Orphaned) -> None:
    """F33: it answers when it is resumed."""
    async with orphaned() as orphan:
        orphan.container.pause()
        async with adopted(orphan.kernel_id) as manager:
            assert "paused" in manager.provisioner.reason
            assert await manager.is_alive()
            orphan.container.unpause()
            assert await says(manager, "x") == "1"


async def test_a_kernel_too_busy_for_its_control_channel_is_adopted(
    orphaned: Orphaned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F31: the heartbeat is the second opinion. A call that holds Python's lock answers nothing."""
    monkeypatch.setattr(greeting, "ANSWER_SECONDS", 1.0)
    async with orphaned() as orphan:
        await orphan.send(
            "import ctypes, time; time.sleep(0.5); ctypes.PyDLL(None).system(b'sleep 4')"
        )
        await until(lambda: "sleep 4" in str(orphan.container.top()["Processes"]))
        async with adopted(orphan.kernel_id) as manager:
            assert "too busy" in manager.provisioner.reason
            assert manager.provisioner.was_busy
            assert await says(manager, "x") == "1"


async def test_ports_are_read_again_after_a_restart_from_outside(orphaned: Orphaned) -> None:
    """F21: the engine chose new ones; the kernel is new, and is said to be."""
    async with orphaned(**TCP) as orphan:
        before = json.loads(orphan.record_file.read_text())["connection_info"]
        await restart_from_outside(orphan)
        async with adopted(orphan.kernel_id) as manager:
            assert "was restarted" in manager.provisioner.reason
            after = json.loads(Path(manager.connection_file).read_text())
            ports = {name for name in before if name.endswith("_port")}
            assert all(before[name] != after[name] for name in ports)
            assert after["key"] == before["key"]
            assert "NameError" in await says(manager, "x")
            record = json.loads(orphan.record_file.read_text())
            assert record["connection_info"] == {**before, **{name: after[name] for name in ports}}
        async with adopted(orphan.kernel_id) as manager:
            assert manager.provisioner.reason == ""  # told once


async def test_sockets_are_found_again_after_a_restart_from_outside(orphaned: Orphaned) -> None:
    """F21: where the kernel may make its sockets anew, as it may when this process is not root."""
    async with orphaned(profile="dev") as orphan:
        if os.getuid() == 0:
            KernelDirectory(orphan.directory).sockets.chmod(0o777)
        await restart_from_outside(orphan)
        async with adopted(orphan.kernel_id) as manager:
            assert "was restarted" in manager.provisioner.reason
            assert "NameError" in await says(manager, "x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root closes the sockets' directory")
async def test_a_kernel_that_cannot_make_its_sockets_again_has_ended(orphaned: Orphaned) -> None:
    """F21: a restart from outside ends it. Nothing replaces it, and its container says why."""
    async with orphaned(profile="dev") as orphan:
        orphan.container.restart(timeout=0)
        assert (await asyncio.to_thread(orphan.container.wait))["StatusCode"] == 1
        orphan.container.reload()
        before = orphan.facts()
        with pytest.raises(KernelNotAdoptable, match="No container of this kernel runs"):
            await try_to_adopt(orphan.kernel_id, adopt_only=True)
        assert orphan.facts() == before
        assert b"Address already in use" in orphan.container.logs(tail=1)
