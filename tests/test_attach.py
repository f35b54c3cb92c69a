"""A kept kernel for a script, without a server."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from container_provisioner import attach, attach_async
from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.store import RecordStore

from .conftest import Kernel, WriteKernelspec
from .ends import end_of, left_below, until
from .orphans import Orphan, orphan_fixture  # noqa: F401 - a fixture
from .owners import StartOwner, assert_controlled, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import eventually

pytestmark = pytest.mark.docker

COUNT = "for n in range(3): print(n, flush=True)"


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [m["content"]["text"] for m in messages if m["msg_type"] == "stream"]


async def test_a_script_owns_the_kernel_it_attaches_to(orphan: Orphan, runtime_dir: Path) -> None:
    manager = await attach_async(orphan.kernel_id)
    client = manager.client()
    client.start_channels()
    kernel = Kernel(manager, client)
    await kernel.ready()
    assert await kernel.run("print(x)") == "1\n"
    assert kernel.container_id == orphan.container.id
    await assert_controlled(kernel)
    kernel.client.stop_channels()
    await manager.shutdown_kernel()
    assert left_below(runtime_dir) == []


async def test_what_was_said_meanwhile_comes_with_it(orphan: Orphan) -> None:
    await orphan.say(COUNT)
    manager = await attach_async(orphan.kernel_id)
    assert texts(manager.missed) == ["0\n", "1\n", "2\n"]
    assert manager.dropped == 0
    assert {message["channel"] for message in manager.missed} == {"iopub"}
    await manager.shutdown_kernel(now=True)


async def test_what_was_kept_stays_kept_over_a_restart(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> None:
    """Its kernelspec says "stop"; who started it said otherwise."""
    kernelspec()
    owner = start_owner(independent=True)
    owner.end()
    manager = await attach_async(owner.kernel_id)
    kernel = Kernel(manager, manager.client())
    container_id = kernel.container_id
    await kernel.restart()
    record = RecordStore().read(owner.kernel_id)
    assert (kernel.container_id, record["container"]["on_server_exit"]) == (container_id, "keep")
    kernel.client.stop_channels()
    await manager.shutdown_kernel(now=True)


async def test_its_death_is_noticed(orphan: Orphan) -> None:
    manager = await attach_async(orphan.kernel_id)
    orphan.container.kill()
    assert await end_of(Kernel(manager, manager.client())) == 137
    await manager.shutdown_kernel(now=True)


SCRIPT = """
import sys
from container_provisioner import attach
manager = attach(sys.argv[1])
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=30)
client.execute_interactive("x = x + 1; print(x)", timeout=30)
if "shutdown" in sys.argv:
    manager.shutdown_kernel()
"""


def run_script(*argv: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_kernel_goes_on_when_the_script_ends(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    """One script after the other, each with a manager that blocks."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.die()
    assert run_script(owner.kernel_id) == "2\n"
    assert run_script(owner.kernel_id) == "3\n"
    assert run_script(owner.kernel_id, "shutdown") == "4\n"
    assert left_below(runtime_dir) == []


def test_a_console_connects_to_a_kept_kernel(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    """As a guest: the manager took Jupyter's connection file with it, and it is there again."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.end()
    file = runtime_dir / f"kernel-{owner.kernel_id}.json"
    eventually(file.exists, "the connection file to be there again")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_console", "--existing", str(file), "--simple-prompt"],
        input="print('x is', x)\nexit(keep_kernel=True)\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "x is 1" in done.stdout, done.stderr
    manager = attach(owner.kernel_id)
    assert manager.is_alive()
    manager.shutdown_kernel(now=True)


def test_what_cannot_be_attached_to_is_refused(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> None:
    kernelspec(on_server_exit="keep")
    with pytest.raises(KernelNotAdoptable, match="cannot be read"):
        attach("no-such-kernel")
    owner = start_owner()
    with pytest.raises(KernelNotAdoptable, match=f"process {owner.process.pid} .* still runs"):
        attach(owner.kernel_id)
    assert RecordStore().read(owner.kernel_id)["kernel_id"] == owner.kernel_id
    owner.die()
    attach(owner.kernel_id).shutdown_kernel(now=True)


async def test_a_kernel_that_ends_with_its_owner_is_none_to_attach_to(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> None:
    kernelspec()
    owner = start_owner()
    with pytest.raises(KernelNotAdoptable, match="on_server_exit is 'stop'"):
        await attach_async(owner.kernel_id)
    owner.die()
    await until(lambda: not RecordStore().path(owner.kernel_id).exists())
