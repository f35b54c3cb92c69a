"""Kernels in several languages: each can run, be interrupted, ask, complete, restart and end.

docs/kernels.md has the same as a table.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from .conftest import BASH_IMAGE, IMAGE, IPYKERNEL, R_IMAGE, Kernel, StartKernel
from .said import until_it_says

pytestmark = pytest.mark.docker

DENO = str(Path(sys.executable).parent / "deno")


@dataclass(frozen=True, kw_only=True)
class Language:
    """What is run in it, and what comes of that. Each kernel has an ``x`` of its own."""

    stanza: dict[str, Any]
    argv: tuple[str, ...] = ()  # else as the image's own kernelspec, at that path
    kernelspec: str = ""
    spec: dict[str, Any]
    assign: str
    show: tuple[str, str]
    forgotten: str  # what `show` says after a restart
    endless: str  # says "begins" first
    interrupted: str  # status of its reply
    ask: tuple[str, str] | None  # for a name, and what that prints
    complete: tuple[str, str]


PYTHON = {
    "assign": "x = 6 * 7",
    "show": ("print(x)", "42\n"),
    "forgotten": "NameError",
    "endless": "import time\nprint('begins', flush=True)\nwhile True: time.sleep(0.1)",
    "ask": ("print(input('who? '))", "Ada\n"),
    "complete": ("enumer", "enumerate"),
}
XEUS: dict[str, Any] = {
    **PYTHON,
    "stanza": {"image": IMAGE},
    "argv": ("python", "-m", "xpython_launcher", "-f", "{connection_file}"),
    # It cannot be interrupted, in a container or not, and a signal ends it.
    "spec": {"language": "python", "interrupt_mode": "message"},
    "endless": "import time\nprint('begins', flush=True)\ntime.sleep(1)",
    "interrupted": "ok",
}
KERNELS = {
    "ipykernel": Language(
        **PYTHON,
        stanza={"image": IMAGE, "transport": "tcp"},
        argv=tuple(IPYKERNEL),
        spec={"language": "python"},
        interrupted="error",
    ),
    "xeus-python": Language(**XEUS),
    "bash": Language(
        stanza={"image": BASH_IMAGE},
        kernelspec="/usr/local/share/jupyter/kernels/bash/kernel.json",
        spec={"language": "bash"},
        assign="x=$((6 * 7))",
        show=('echo "<$x>"', "<42>\n"),
        forgotten="<>\n",
        endless="echo begins; while :; do sleep 0.1; done",
        interrupted="abort",
        ask=None,  # bash_kernel has no input
        complete=("ech", "echo"),
    ),
    "R": Language(
        stanza={"image": R_IMAGE},
        kernelspec="/usr/share/jupyter/kernels/ir/kernel.json",
        spec={"language": "R"},
        assign="x <- 6 * 7",
        show=("cat(x)", "42"),
        forgotten="object 'x' not found",
        endless="cat('begins\\n')\nwhile (TRUE) Sys.sleep(0.1)",
        interrupted="abort",
        ask=("cat(readline('who? '))", "Ada"),
        complete=("prin", "print"),
    ),
    "deno": Language(
        stanza={"transport": "tcp"},
        argv=(DENO, "jupyter", "--kernel", "--conn", "{connection_file}"),
        spec={"language": "typescript", "interrupt_mode": "message"},
        assign="var x = 6 * 7",
        show=("x", "42"),
        forgotten="ReferenceError",
        endless="console.log('begins'); while (true) {}",
        interrupted="error",
        ask=None,  # prompt() is null at once
        complete=("Den", "Deno"),
    ),
}


async def restart(kernel: Kernel) -> None:
    """Without a client. One that connects again at once would keep its identity from the next,
    and xeus answers the first of two that have the same."""
    kernel.client.stop_channels()
    await kernel.manager.restart_kernel()
    kernel.reconnect()
    await kernel.ready()


def argv_in(client: docker.DockerClient, image: str, path: str) -> list[str]:
    """Of the kernelspec that is at that path in the image."""
    container = client.containers.create(image)
    try:
        chunks, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            file = archive.extractfile("kernel.json")
            assert file is not None
            return list(json.load(file)["argv"])
    finally:
        container.remove()


async def interrupt(kernel: Kernel, code: str) -> str:
    """Run it, and interrupt it when it has said something; the status of its reply."""
    begun = asyncio.Event()
    cell = asyncio.ensure_future(
        kernel.client.execute_interactive(
            code, timeout=30, output_hook=lambda m: m["msg_type"] == "stream" and begun.set()
        )
    )
    await asyncio.wait_for(begun.wait(), 30)
    await kernel.manager.interrupt_kernel()
    return str((await cell)["content"]["status"])


@pytest.mark.parametrize("name", KERNELS)
async def test_a_kernel_does_all_that_a_kernel_does(
    start_kernel: StartKernel,
    docker_client: docker.DockerClient,
    our_containers: Callable[[], list[str]],
    name: str,
):
    language = KERNELS[name]
    argv = list(language.argv)
    if language.kernelspec:
        argv = argv_in(docker_client, language.stanza["image"], language.kernelspec)
    kernel = await start_kernel(argv=argv, spec=language.spec, **language.stanza)
    code, shown = language.show
    await kernel.run(language.assign)
    await until_it_says(kernel, code, shown)

    assert await interrupt(kernel, language.endless) == language.interrupted
    await until_it_says(kernel, code, shown)

    if language.ask is not None:
        asks, answered = language.ask
        said = await kernel.run(
            asks, allow_stdin=True, stdin_hook=lambda request: kernel.client.input("Ada")
        )
        assert said == answered

    begins, whole = language.complete
    completed: Any = await kernel.client.complete(begins, reply=True, timeout=30)
    assert whole in completed["content"]["matches"]

    await restart(kernel)
    await until_it_says(kernel, code, language.forgotten)
    await kernel.manager.shutdown_kernel()
    assert our_containers() == []
