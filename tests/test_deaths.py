"""A kernel that dies says why: in the exception, in the log, and as the reason a server shows."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner.errors import KernelDied

from .conftest import ENTRYPOINT_IMAGE, IMAGE, PLAIN_IMAGE, StartKernel, WriteKernelspec
from .ends import end_of, until

pytestmark = pytest.mark.docker

ALLOCATE = "hoard = bytearray(1024**3); hoard[::4096] = b'x' * len(hoard[::4096])"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_kernel_that_allocates_past_its_limit(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    """F29"""
    kernel = await start_kernel(memory_limit="128m")
    kernel.client.execute(ALLOCATE)
    assert await end_of(kernel) == 137
    reason = kernel.provisioner.reason
    assert reason.startswith(
        "The kernel died: it ran out of memory (memory_limit is 128 MiB). "
        f"Container {kernel.container_id[:12]}, image host environment."
    )
    assert errors(caplog) == [f"Kernel {kernel.manager.kernel_id}: {reason}"]


async def test_process_that_is_killed_for_memory_leaves_the_kernel_alive(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    """F29"""
    kernel = await start_kernel(memory_limit="256m")
    code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ALLOCATE!r}]).returncode"
    )
    assert await kernel.run(code) == "-9"
    assert await kernel.manager.is_alive()
    assert await kernel.run("1 + 1") == "2"
    warning = (
        f"Kernel {kernel.manager.kernel_id}: a process in container {kernel.container_id[:12]} was "
        "killed because memory ran out (memory_limit is 256 MiB)."
    )
    await until(lambda: warning in caplog.messages)
    # And a later death is not blamed on it.
    kernel.client.execute("import os; os._exit(3)")
    assert await end_of(kernel) == 3
    assert "it ended with exit code 3" in kernel.provisioner.reason


async def test_kernel_that_is_killed_from_outside_was_not_out_of_memory(start_kernel: StartKernel):
    """F29"""
    kernel = await start_kernel()
    await kernel.manager.signal_kernel(signal.SIGKILL)
    assert await end_of(kernel) == 137
    assert "memory" not in kernel.provisioner.reason
    assert "it was ended by SIGKILL" in kernel.provisioner.reason


async def test_our_own_kill_is_no_news(start_kernel: StartKernel, caplog: pytest.LogCaptureFixture):
    """F29"""
    kernel = await start_kernel()
    await kernel.manager.shutdown_kernel(now=True)
    assert kernel.provisioner.reason == ""
    assert errors(caplog) == []


async def test_each_death_has_its_own_reason(start_kernel: StartKernel):
    kernel = await start_kernel()
    kernel.client.execute("import os; os._exit(3)")
    assert await end_of(kernel) == 3
    assert "it ended with exit code 3" in kernel.provisioner.reason
    await kernel.restart()
    kernel.client.execute("import os; os._exit(4)")
    assert await end_of(kernel) == 4
    assert "it ended with exit code 4" in kernel.provisioner.reason


@pytest.mark.parametrize(
    ("stanza", "facts"),
    [
        (
            {"argv": ["sh", "-c", "echo last words; exit 3"]},
            ["it ended with exit code 3.", "image host environment.", "Last output: last words"],
        ),
        (
            {"argv": ["sh", "-c", "kill -9 $$"]},
            ["it was ended by SIGKILL", "(exit code 137)"],
        ),
        (
            {"image": PLAIN_IMAGE, "argv": ["python3", "-m", "ipykernel_launcher"]},
            [f"image {PLAIN_IMAGE!r} has no kernel in it (no module named 'ipykernel_launcher')"],
        ),
        (
            {"image": PLAIN_IMAGE, "argv": ["R", "--slave"]},
            [f"image {PLAIN_IMAGE!r} has no command 'R'", "correct the kernelspec's argv"],
        ),
        (
            {"image": PLAIN_IMAGE, "argv": ["R", "--slave"], "env": {"A": "1"}},
            [f"image {PLAIN_IMAGE!r} has no command 'R'", "correct the kernelspec's argv"],
        ),
        (
            {
                "argv": [
                    "sh",
                    "-c",
                    r"printf 'a\033[31mred\033[0m\rb\007\033]0;title\007\n'; exit 1",
                ]
            },
            ["Last output: ared | b"],
        ),
    ],
    ids=["exit-code", "signal", "no-kernel", "no-command", "no-command-for-the-shell", "escapes"],
)
async def test_kernel_that_does_not_start_says_why(
    start_kernel: StartKernel,
    stanza: dict[str, Any],
    facts: list[str],
):
    """F34, F13: at once and in one line, with what the container had to say."""
    began = time.monotonic()
    with pytest.raises(KernelDied) as raised:
        await start_kernel(**stanza)
    assert time.monotonic() - began < 30  # half of start_timeout: the death was seen
    message = str(raised.value)
    assert {fact: fact in message for fact in facts} == dict.fromkeys(facts, True)
    assert message.isprintable()
    assert re.match(r"Kernel [0-9a-f-]{36}: The kernel died while it started: ", message)


async def test_last_words_are_never_lost(kernelspec: WriteKernelspec, folder: Path):
    """F13: the container is there until its exit code and its log have been read."""
    name = kernelspec(argv=["sh", "-c", "echo last words; exit 3"])
    slots = asyncio.Semaphore(5)

    async def start() -> str:
        async with slots:
            with pytest.raises(KernelDied) as raised:
                await AsyncKernelManager(kernel_name=name).start_kernel(cwd=str(folder))
        return re.sub(r"\b[0-9a-f-]{12,}", "ID", str(raised.value))

    messages = await asyncio.gather(*(start() for _ in range(50)))
    assert set(messages) == {
        "Kernel ID: The kernel died while it started: it ended with exit code 3. Container ID, "
        "image host environment. Last output: last words"
    }


async def test_entrypoint_of_an_image_does_not_swallow_the_command(start_kernel: StartKernel):
    """F34"""
    kernel = await start_kernel(image=ENTRYPOINT_IMAGE)
    assert await kernel.run("1 + 1") == "2"


async def test_log_of_a_dead_kernel_cannot_forge_lines(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    kernel = await start_kernel(image=IMAGE)
    forged = r"printf '\033[2J\r\nERROR forged\033[8m\n' >/proc/1/fd/2; kill -9 -1"
    kernel.client.execute(f"import os; os.system({forged!r})")
    assert await end_of(kernel) == 137
    assert kernel.provisioner.reason.isprintable()
    assert "ERROR forged" in kernel.provisioner.reason
    assert len(errors(caplog)) == 1
