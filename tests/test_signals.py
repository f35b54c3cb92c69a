"""Signals reach whatever a cell is running, and every end is reported with its exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from .conftest import IMAGE, Kernel, StartKernel
from .ends import end_of

pytestmark = pytest.mark.docker

# Each says "started" once there is something to interrupt, and would go on for a minute.
CELLS = {
    "loop": "print('started')\nwhile True: pass",
    "subprocess.run": "import subprocess\nsubprocess.run('echo started; sleep 60', shell=True)",
    "os.system": "import os\nos.system('echo started; sleep 60')",
    "!": "!echo started; sleep 60",
    "%%bash": "%%bash\necho started\nsleep 60",
    "loop with a child": (
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint('started')\n"
        "while True: pass"
    ),
}
INTERRUPTED = {
    "loop": "KeyboardInterrupt",
    "subprocess.run": "KeyboardInterrupt",
    "os.system": "ok",  # the shell dies of the signal, as in a terminal
    "!": "ok",
    "%%bash": "CalledProcessError",
    "loop with a child": "KeyboardInterrupt",
}
SECONDS = 20  # a third of what a cell takes that is not interrupted


async def interrupted(kernel: Kernel, code: str) -> str:
    """Run, interrupt, and what the reply says: ``ok``, or the error's name."""
    # Else a kernel that is short of time may skip the next cell, because this one failed.
    message_id = kernel.client.execute(code, stop_on_error=False)
    output = ""
    while "started" not in output:
        message = await kernel.client.get_iopub_msg(timeout=30)
        output += message["content"].get("text", "")
    await kernel.manager.interrupt_kernel()
    while True:
        reply = await kernel.client.get_shell_msg(timeout=SECONDS)
        if reply["parent_header"]["msg_id"] == message_id:
            return str(reply["content"].get("ename", reply["content"]["status"]))


@pytest.mark.parametrize("mode", ["signal", "message"])
@pytest.mark.parametrize("restarted", [False, True], ids=["fresh", "restarted"])
async def test_interrupt_stops_what_the_cell_is_running(
    start_kernel: StartKernel, mode: str, restarted: bool
):
    kernel = await start_kernel(spec={"interrupt_mode": mode})
    if restarted:
        await kernel.restart()
    await kernel.run("x = 42")
    assert {name: await interrupted(kernel, code) for name, code in CELLS.items()} == INTERRUPTED
    assert await kernel.run("x") == "42"


async def test_interrupt_in_an_image(start_kernel: StartKernel):
    """The image's engine-made init does the same, though the kernel's user is another."""
    kernel = await start_kernel(image=IMAGE)
    assert await interrupted(kernel, CELLS["os.system"]) == "ok"
    assert await interrupted(kernel, CELLS["loop with a child"]) == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("end", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 143), ("import os; os._exit(5)", 5)]
)
async def test_exit_code(start_kernel: StartKernel, end: str | int, code: int):
    kernel = await start_kernel()
    if isinstance(end, str):
        kernel.client.execute(end)
    else:
        await kernel.manager.signal_kernel(end)
    assert await end_of(kernel) == code
    assert not await kernel.manager.is_alive()
    assert kernel.provisioner.has_process
    assert await kernel.provisioner.wait() == code
    assert not kernel.provisioner.has_process


async def test_signal_0_changes_nothing(start_kernel: StartKernel):
    kernel = await start_kernel()
    await kernel.manager.signal_kernel(0)
    assert await kernel.run("1 + 1") == "2"


async def test_signal_of_no_special_meaning_arrives(start_kernel: StartKernel):
    kernel = await start_kernel()
    await kernel.run(
        "import signal; got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0]))"
    )
    await kernel.manager.signal_kernel(signal.SIGUSR1)
    waiting = "import time\nwhile not got: time.sleep(0.01)\ngot"
    assert await kernel.run(waiting) == "[10]"


async def test_kill_is_seen_at_once(start_kernel: StartKernel):
    """F15: the call returns before the state changes; the name is free for the next launch."""
    kernel = await start_kernel(restart_mode="recreate")
    await kernel.provisioner.kill()
    assert await end_of(kernel, seconds=5) == 137
    await kernel.restart(now=True)
    assert await kernel.run("1 + 1") == "2"


@pytest.fixture
def container_of(docker_client: docker.DockerClient) -> Any:
    def find(kernel: Kernel) -> Container:
        return docker_client.containers.get(kernel.container_id)

    return find


OUTSIDE = {
    "paused": lambda container: container.pause(),
    "exited": lambda container: container.kill(),
    "removed": lambda container: container.remove(force=True),
}


@pytest.mark.parametrize("now", [False, True], ids=["in-good-order", "now"])
@pytest.mark.parametrize("state", OUTSIDE)
async def test_nothing_raises_where_nothing_runs(
    start_kernel: StartKernel, container_of: Any, state: str, now: bool
):
    """F14, F33: every shutdown begins with SIGINT, whatever became of the container."""
    kernel = await start_kernel()
    OUTSIDE[state](container_of(kernel))
    for signum in (0, signal.SIGINT):
        await kernel.manager.signal_kernel(signum)
    await kernel.manager.shutdown_kernel(now=now)
    assert not kernel.manager.has_kernel


async def test_paused_kernel_is_alive(start_kernel: StartKernel, container_of: Any):
    """F33"""
    kernel = await start_kernel()
    await kernel.run("x = 42")
    container_of(kernel).pause()
    for _ in range(20):
        assert await kernel.manager.is_alive()
        await asyncio.sleep(0.1)
    container_of(kernel).unpause()
    assert await kernel.run("x") == "42"


async def test_paused_kernel_can_be_restarted(start_kernel: StartKernel, container_of: Any):
    """F33"""
    kernel = await start_kernel()
    container_of(kernel).pause()
    await kernel.restart(now=True)
    assert await kernel.run("1 + 1") == "2"


async def test_container_removed_from_outside_is_a_death(
    start_kernel: StartKernel, container_of: Any
):
    """F12"""
    kernel = await start_kernel()
    old = kernel.container_id
    container_of(kernel).remove(force=True)
    assert await end_of(kernel) == 1
    assert not await kernel.manager.is_alive()
    assert "its container was removed from outside" in kernel.provisioner.reason
    await kernel.restart()
    assert await kernel.run("1 + 1") == "2"
    assert kernel.container_id != old


async def test_poll_makes_no_engine_call(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    """F40, and F11's other half: nothing to go wrong. The SDK's HTTP client logs each request."""
    kernel = await start_kernel()
    with caplog.at_level(logging.DEBUG, logger="urllib3"):
        await kernel.manager.signal_kernel(signal.SIGWINCH)
        assert [record.name for record in caplog.records] == ["urllib3.connectionpool"]
        caplog.clear()
        assert [await kernel.provisioner.poll() for _ in range(200)] == [None] * 200
    assert caplog.records == []
