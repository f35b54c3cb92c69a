"""A server dies in the middle of what it does with a kernel; who finishes it, and how?

A kept kernel is kept in doubt. One that was never started, or was to be shut down, is not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from .conftest import WriteKernelspec
from .ends import left_of_kernels
from .owners import find
from .server_process import eventually

pytestmark = pytest.mark.docker

HEIR = Path(__file__).with_name("heir.py")

OWNER = """
import importlib, inspect, os, signal, sys, uuid
from jupyter_client.manager import KernelManager

verb, where, folder = sys.argv[1:]

def die_after(name, when):
    module, class_name, method = name.rsplit(".", 2)
    owner = getattr(importlib.import_module(f"container_provisioner.{module}"), class_name)
    original = getattr(owner, method)

    def die(arguments):
        if not when or when in arguments:
            os.killpg(0, signal.SIGKILL)

    async def replacement(self, *args, **kwargs):
        result = await original(self, *args, **kwargs)
        die(args)
        return result

    def blocking(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        die(args)
        return result

    setattr(owner, method, replacement if inspect.iscoroutinefunction(original) else blocking)

manager = KernelManager(kernel_name="keep", kernel_id=str(uuid.uuid4()))
print(manager.kernel_id, flush=True)
name, _, when = where.partition("=")
if verb == "start":
    die_after(name, when)
    manager.start_kernel(cwd=folder)
manager.start_kernel(cwd=folder)
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("x = 1", timeout=60)
what, _, how = verb.partition(" ")
if how == "slowly":
    client.execute_interactive("import atexit, time; atexit.register(time.sleep, 60);")
die_after(name, when)
{"restart": manager.restart_kernel, "shutdown": manager.shutdown_kernel}[what](now=how == "now")
"""

GONE, FRESH, UNHARMED = "", "None\n", "1\n"


def killed_in(verb: str, where: str, folder: Path) -> str:
    """Have a process die there; the id of its kernel."""
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, verb, where, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        check=False,
        timeout=90,
    )
    assert owner.returncode == -9, "it was not killed"
    return owner.stdout.strip()


def adopted(kernel_id: str) -> str:
    """What ``x`` is for the next process, which then shuts the kernel down."""
    heir = subprocess.run(
        [sys.executable, str(HEIR), "print(globals().get('x'))", kernel_id],
        stdout=subprocess.PIPE,
        check=True,
        timeout=90,
    )
    return str(json.loads(heir.stdout)[kernel_id])


@pytest.mark.parametrize(
    ("verb", "where", "outcome"),
    [
        ("start", "store.directory.KernelDirectory.create", GONE),
        ("start", "engine.calls.Engine.create", GONE),
        ("start", "engine.calls.Engine.start", GONE),
        ("start", "store.directory.KernelDirectory.mark=running", FRESH),
        ("start", "store.records.RecordStore.write", FRESH),
        ("restart", "container_process.ContainerProcess.send_signal", UNHARMED),
        ("restart", "container_process.ContainerProcess.shutdown_requested", FRESH),
        ("restart slowly", "container_process.ContainerProcess.shutdown_requested", FRESH),
        ("restart", "store.directory.KernelDirectory.open_sockets", FRESH),
        ("restart", "engine.calls.Engine.start", FRESH),
        ("restart now", "handle.KernelContainer.end", FRESH),
        ("shutdown now", "handle.KernelContainer.end", FRESH),
        ("shutdown", "container_process.ContainerProcess.shutdown_requested", GONE),
        ("shutdown", "engine.calls.Engine.remove", GONE),
        ("shutdown", "store.records.RecordStore.remove", GONE),
    ],
)
def test_what_a_dead_server_had_begun_is_finished(
    kernelspec: WriteKernelspec,
    docker_client: docker.DockerClient,
    folder: Path,
    runtime_dir: Path,
    verb: str,
    where: str,
    outcome: str,
) -> None:
    """F2: nobody says what a kill is for. It is done when the next process wants the kernel."""
    kernelspec("keep", on_server_exit="keep")
    kernel_id = killed_in(verb, where, folder)
    if outcome != GONE:
        assert adopted(kernel_id) == outcome
    eventually(
        lambda: find(docker_client, kernel_id) is None and not left_of_kernels(runtime_dir),
        "everything of the kernel to go",
    )
