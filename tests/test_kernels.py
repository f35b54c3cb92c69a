"""A kernel in a container does what a local one does: its life from launch to shutdown."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from container_provisioner.connection import to_json
from container_provisioner.store import RecordStore

from .conftest import IMAGE, StartKernel
from .ends import left_below

pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    "stanza",
    [{}, {"image": IMAGE}, {"profile": "dev", "transport": "tcp"}],
    ids=["host", "image", "dev-tcp"],
)
async def test_variables_live_until_a_restart(start_kernel: StartKernel, stanza: dict[str, str]):
    kernel = await start_kernel(**stanza)
    assert await kernel.run("x = 20; x + 1") == "21"
    container = kernel.container_id
    await kernel.restart()
    assert "NameError" in await kernel.run("x")
    assert kernel.container_id == container


@pytest.mark.parametrize(
    ("stanza", "now"),
    [({}, False), ({}, True), ({"image": IMAGE}, True)],
    ids=["host", "host-now", "image-now"],
)
async def test_restart_in_place_keeps_the_files_of_the_root_filesystem(
    start_kernel: StartKernel, stanza: dict[str, str], now: bool
):
    """F2: jupyter_client does not say that a restart follows; nothing is removed before it."""
    kernel = await start_kernel(profile="dev", **stanza)
    container, kernel_id = kernel.container_id, kernel.manager.kernel_id
    await kernel.run("import pathlib; kept = pathlib.Path.home() / 'kept'; kept.write_text('here')")
    await kernel.restart(now=now)
    assert (
        await kernel.run("import pathlib; (pathlib.Path.home() / 'kept').read_text()") == "'here'"
    )
    assert (kernel.container_id, kernel.manager.kernel_id) == (container, kernel_id)


async def test_restart_in_place_empties_the_home_that_is_in_memory(start_kernel: StartKernel):
    kernel = await start_kernel()
    await kernel.run("import pathlib; (pathlib.Path.home() / 'gone').touch()")
    await kernel.restart()
    assert await kernel.run("import pathlib; (pathlib.Path.home() / 'gone').exists()") == "False"


@pytest.mark.parametrize("now", [False, True], ids=["in-good-order", "now"])
async def test_recreate_gives_a_new_container(
    start_kernel: StartKernel, docker_client: docker.DockerClient, now: bool
):
    kernel = await start_kernel(profile="dev", restart_mode="recreate")
    old = kernel.container_id
    await kernel.run("import pathlib; (pathlib.Path.home() / 'kept').touch()")
    await kernel.restart(now=now)
    assert await kernel.run("import pathlib; (pathlib.Path.home() / 'kept').exists()") == "False"
    assert kernel.container_id != old
    with pytest.raises(docker.errors.NotFound):
        docker_client.containers.get(old)


async def test_settings_that_changed_give_a_new_container_at_the_next_restart(
    start_kernel: StartKernel, folder: Path
):
    kernel = await start_kernel()
    old = kernel.container_id
    (folder / "below").mkdir()
    await kernel.restart(cwd=str(folder / "below"))
    assert await kernel.run("import os; os.getcwd()") == repr(str(folder / "below"))
    assert kernel.container_id != old


@pytest.mark.parametrize("now", [False, True], ids=["in-good-order", "now"])
async def test_shutdown_leaves_nothing(
    start_kernel: StartKernel, our_containers: Callable[[], list[str]], runtime_dir: Path, now: bool
):
    before = set(our_containers())
    kernel = await start_kernel()
    records = RecordStore()
    assert records.read(kernel.manager.kernel_id)["kernel_id"] == kernel.manager.kernel_id
    kernel.client.stop_channels()
    await kernel.manager.shutdown_kernel(now=now)
    assert not kernel.manager.has_kernel
    assert not await kernel.manager.is_alive()
    assert set(our_containers()) == before
    assert left_below(runtime_dir) == []


async def test_kernel_starts_in_the_notebooks_folder(start_kernel: StartKernel, folder: Path):
    (folder / "data.csv").write_text("a,b\n")
    kernel = await start_kernel()
    assert await kernel.run("import os; os.getcwd()") == repr(str(folder))
    assert await kernel.run("open('data.csv').read()") == repr("a,b\n")
    assert kernel.provisioner.resolve_path("data.csv") == str(folder / "data.csv")
    assert kernel.provisioner.resolve_path("/etc/hostname") is None


async def test_folder_that_is_a_link_keeps_the_name_it_was_given(
    start_kernel: StartKernel, folder: Path
):
    (folder / "real").mkdir()
    (folder / "real" / "data.csv").touch()
    (folder / "link").symlink_to(folder / "real")
    kernel = await start_kernel(launch={"cwd": str(folder / "link")})
    assert await kernel.run("import os; (os.getcwd(), os.listdir())") == str(
        (str(folder / "link"), ["data.csv"])
    )
    assert kernel.provisioner.resolve_path("data.csv") == str(folder / "real" / "data.csv")


async def test_connection_file_names_the_kernels_own_end_of_the_sockets(start_kernel: StartKernel):
    kernel = await start_kernel()
    inside = json.loads(
        await kernel.run("import ipykernel; print(open(ipykernel.get_connection_file()).read())")
    )
    outside = to_json(kernel.manager.get_connection_info())
    assert inside == {
        **outside,
        "ip": "/run/kernel/sockets/k",
        "kernel_name": kernel.manager.kernel_name,
        "jupyter_session": "",
    }


async def test_kernel_outlives_a_parent_it_was_told_to_watch(
    start_kernel: StartKernel, monkeypatch: pytest.MonkeyPatch
):
    """F10: under an init the parent is pid 1, which ipykernel takes for a parent that has gone."""
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    kernel = await start_kernel(env_passthrough=["JPY_*"])
    assert await kernel.run("import os; 'JPY_PARENT_PID' in os.environ") == "False"
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert await kernel.manager.is_alive()
        await asyncio.sleep(0.25)
    assert await kernel.run("'still here'") == "'still here'"


async def test_output_of_the_launcher_is_refused_in_words(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        kernel = await start_kernel(launch={"stdout": subprocess.DEVNULL, "stderr": None})
    assert caplog.messages == [
        f"Kernel {kernel.manager.kernel_id}: stdout= is not supported; the engine keeps the "
        "kernel's output ('docker logs')."
    ]


async def test_what_the_kernel_process_writes_is_in_the_engines_log(
    start_kernel: StartKernel, docker_client: docker.DockerClient
):
    kernel = await start_kernel()
    await kernel.run("import os; os.system('echo for the operator >/proc/1/fd/1')")
    log = docker_client.containers.get(kernel.container_id).logs()
    assert b"for the operator" in log


async def test_variables_given_at_the_start_are_held_back_with_a_notice(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    """F9: the allow-list holds, and who gave the variable learns why it is not there."""
    env = {**os.environ, "ADDED": "1", "PASSED": "2"}
    kernel = await start_kernel(launch={"env": env}, env_passthrough=["PASSED"])
    assert await kernel.run("import os; [os.environ.get(n) for n in ('ADDED', 'PASSED')]") == (
        "[None, '2']"
    )
    notices = [r.getMessage() for r in caplog.records if "env_passthrough" in r.getMessage()]
    assert notices == [
        f"Kernel {kernel.manager.kernel_id}: these variables were given at its start and do not "
        "reach it: ADDED. Name them in env_passthrough."
    ]
