"""A server in a container: what its engine is told, where that has another name for everything."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from container_provisioner.engine import calls
from container_provisioner.errors import NetworkMissing
from container_provisioner.spec import Mount
from container_provisioner.store import KernelDirectory
from container_provisioner.topology import OwnContainer

from .conftest import KERNEL, Launches

COMPOSE = {"com.docker.compose.project": "lab", "com.docker.compose.service": "jupyter"}


@pytest.fixture
def on_host(runtime_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The engine's host's folder with the mounts of this process's container."""
    host = runtime_dir.parent / "host"  # short, for the sockets that the fake makes there
    host.mkdir()
    here = {"runtime": runtime_dir, "notebooks": folder}
    for name, path in here.items():
        (host / name).symlink_to(path)
    own = OwnContainer(
        id=64 * "a",
        mounts=tuple(
            Mount(source=str(host / name), target=str(path), read_only=False)
            for name, path in here.items()
        ),
        labels=COMPOSE,
    )
    monkeypatch.setattr(calls, "own_ids", lambda: iter([own.id]))
    monkeypatch.setattr(calls, "find_own_container", lambda engine: own)
    return host


async def test_the_engine_is_told_its_own_paths(
    launches: Launches, on_host: Path, folder: Path, caplog: pytest.LogCaptureFixture
):
    """F25: and nobody else is. Two launches; which container this is was asked once."""
    caplog.set_level(logging.INFO)
    first = await launches.start()
    await launches.start()
    name = KernelDirectory.of(first.kernel_id).path.name
    private = f"{on_host}/runtime/container-provisioner/{name}"
    spec = launches.container(first).spec
    assert spec.mounts == (
        Mount(source=private, target="/run/kernel"),
        Mount(source=f"{private}/sockets", target="/run/kernel/sockets", read_only=False),
        Mount(source=f"{private}/hosts", target="/etc/hosts"),
        Mount(source=f"{on_host}/notebooks", target=str(folder)),
    )
    assert spec.labels["com.docker.compose.service"] == "jupyter-kernel"
    facts = first.provisioner.facts
    assert facts.mounts == (Mount(source=str(folder), target=str(folder)),)
    assert str(on_host) not in json.dumps(await first.provisioner.get_provisioner_info())
    said = [record.message for record in caplog.records if "This server runs" in record.message]
    assert len(said) == 1
    assert said[0].endswith("messages go over unix sockets there")


async def test_a_restart_is_in_place(launches: Launches, on_host: Path):
    """Its definition is the same as before, by the engine's paths too."""
    manager = await launches.start()
    before = launches.container(manager).id
    await manager.restart_kernel(now=True)
    assert launches.container(manager).id == before


async def test_a_kernelspecs_files_are_copied(launches: Launches, on_host: Path):
    """They lie on none of the mounts."""
    argv = [*KERNEL, "{resource_dir}"]
    manager = await launches.start(argv=argv)
    spec = launches.container(manager).spec
    assert spec.argv[-1] == "/run/kernel/resources"
    assert [mount.target for mount in spec.mounts][:2] == ["/run/kernel", "/run/kernel/sockets"]
    copied = KernelDirectory.of(manager.kernel_id).path / "resources" / "kernel.json"
    assert json.loads(copied.read_text())["argv"] == argv


async def test_kept_where_nobody_will_look(
    launches: Launches,
    on_host: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """The record of a kernel that is to be kept goes with the server's own container."""
    own = OwnContainer(id=64 * "b", networks={"lab": True})
    monkeypatch.setattr(calls, "find_own_container", lambda engine: own)
    with pytest.raises(NetworkMissing):  # the fake has none
        await launches.start(on_server_exit="keep", workspace="none")
    assert "its record is in" in caplog.text
