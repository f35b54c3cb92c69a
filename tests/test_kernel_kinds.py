"""Kernels of many kinds: whose Python, which language, over which transport."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.errors import KernelDied

from .conftest import IMAGE, IPYKERNEL, StartKernel, WriteKernelspec, shared_folder
from .other_pythons import SYSTEM_PYTHON, install, make_venv
from .said import until_it_says

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with shared_folder() as path:
        yield path


@pytest.fixture(scope="module")
def packages(scratch: Path) -> Path:
    """ipykernel and what it needs, for the distribution's Python, in a folder of their own."""
    return install(scratch / "packages", "ipykernel")


DENO = str(Path(sys.executable).parent / "deno")
WHERE = "import sys; print((sys.executable, sys.prefix, sys.base_prefix), end='')"


async def test_the_virtual_environment_that_runs_the_server(start_kernel: StartKernel):
    kernel = await start_kernel()
    assert await kernel.run(WHERE) == str((sys.executable, sys.prefix, sys.base_prefix))


async def test_a_virtual_environment_of_another_python(start_kernel: StartKernel, scratch: Path):
    python = make_venv(scratch / "venv", "ipykernel")
    kernel = await start_kernel(argv=[python, *IPYKERNEL[1:]])
    assert await kernel.run(WHERE) == str((python, str(scratch / "venv"), "/usr"))


async def test_the_distributions_python(start_kernel: StartKernel, packages: Path):
    kernel = await start_kernel(
        argv=[SYSTEM_PYTHON, *IPYKERNEL[1:]],
        mounts=[f"{packages}:{packages}"],
        env={"PYTHONPATH": str(packages)},
    )
    assert await kernel.run(WHERE) == str((SYSTEM_PYTHON, "/usr", "/usr"))


async def test_the_python_below_a_virtual_environment(start_kernel: StartKernel, folder: Path):
    """A pyenv, conda or self-built Python, wherever it is; the distribution's in the worst case."""
    base = os.path.realpath(sys.executable)
    packages = install(folder / "packages", "ipykernel", interpreter=base)
    kernel = await start_kernel(
        argv=[base, *IPYKERNEL[1:]],
        mounts=[f"{packages}:{packages}"],
        env={"PYTHONPATH": str(packages)},
    )
    assert await kernel.run(WHERE) == str((base, sys.base_prefix, sys.base_prefix))


async def test_the_images_python(start_kernel: StartKernel):
    """F8: ``python`` is the image's, though jupyter_client makes the server's path of it."""
    kernel = await start_kernel(image=IMAGE)
    assert await kernel.run("import os, sys; (sys.prefix, os.getuid())") == str(("/usr", 12345))


@pytest.mark.parametrize("program", ["python3", "/usr/bin/python3", sys.executable])
async def test_any_spelling_of_the_interpreter_in_an_image(start_kernel: StartKernel, program: str):
    """F8"""
    kernel = await start_kernel(image=IMAGE, argv=[program, *IPYKERNEL[1:]])
    assert await kernel.run("1 + 1") == "2"


@pytest.mark.parametrize("root", ["host", "image"])
async def test_program_beside_the_kernelspec(
    start_kernel: StartKernel,
    kernelspec: WriteKernelspec,
    packages: Path,
    runtime_dir: Path,
    root: str,
):
    """The kernelspec's own files are there, and nothing of them can be changed."""
    stanza: dict[str, Any] = {"image": IMAGE}
    if root == "host":
        stanza = {"mounts": [f"{packages}:{packages}"], "env": {"PYTHONPATH": str(packages)}}
    kernelspec("contained-0")
    script = runtime_dir.parent / "path" / "kernels" / "contained-0" / "start.sh"
    script.write_text('export STARTED_BY="$0"\nexec python3 -m ipykernel_launcher -f "$1"\n')
    kernel = await start_kernel(
        argv=["sh", "{resource_dir}/start.sh", "{connection_file}"], **stanza
    )
    assert await kernel.run("import os; os.environ['STARTED_BY']") == repr(
        "/run/kernel/resources/start.sh"
    )
    assert "Read-only" in await kernel.run("open('/run/kernel/resources/new', 'w')")


@pytest.mark.parametrize("transport", ["tcp", "network"])
async def test_a_kernel_that_is_not_python_and_speaks_tcp_only(
    start_kernel: StartKernel, transport: str
):
    """JavaScript by Deno, one program written in Rust, from this host's environment."""
    kernel = await start_kernel(
        argv=[DENO, "jupyter", "--kernel", "--conn", "{connection_file}"],
        spec={"language": "typescript", "interrupt_mode": "message"},
        network="bridge",
        transport=transport,
    )
    await until_it_says(kernel, "let x = 6; x * 7", "42")
    await kernel.restart()
    await until_it_says(kernel, "x", "ReferenceError")


async def test_a_kernel_that_does_not_speak_ipc_is_told_from_one_that_is_slow(
    start_kernel: StartKernel,
):
    """F36"""
    with pytest.raises(KernelDied, match="transport='tcp'"):
        await start_kernel(
            argv=[DENO, "jupyter", "--kernel", "--conn", "{connection_file}"], start_timeout=5
        )


@pytest.mark.parametrize(
    ("stanza", "transport"),
    [({}, "ipc"), ({}, "tcp"), ({"image": IMAGE}, "tcp"), ({"image": IMAGE}, "network")],
    ids=["host-ipc", "host-tcp", "image-tcp", "image-network"],
)
async def test_transports(start_kernel: StartKernel, transport: str, stanza: dict[str, str]):
    kernel = await start_kernel(transport=transport, network="bridge", **stanza)
    assert await kernel.run("x = 1; x") == "1"
    info = kernel.manager.get_connection_info()
    assert info["transport"] == {"ipc": "ipc"}.get(transport, "tcp")
    if transport == "tcp":
        assert info["ip"] == "127.0.0.1"
    await kernel.restart()
    assert "NameError" in await kernel.run("x")


async def test_address_of_a_first_launch_is_no_obstacle_to_the_next(start_kernel: StartKernel):
    """F1: the manager then holds the container's address, which is not local to this host."""
    kernel = await start_kernel(transport="network", network="bridge")
    for now in (False, True, False):
        await kernel.restart(now=now)
        assert await kernel.run("6 * 7") == "42"
