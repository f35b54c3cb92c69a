"""A server that is itself in a container: how it knows, and what its paths mean to the engine."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.engine.answers import container_info
from container_provisioner.engine.base import ContainerInfo, NetworkInfo
from container_provisioner.engine.calls import Engine
from container_provisioner.engine.own_container import find_own_container, own_ids
from container_provisioner.errors import ConfigurationError, ContainerGone, WorkspaceError
from container_provisioner.internal_network import ensure_internal_network
from container_provisioner.labels import INTERNAL_NETWORK
from container_provisioner.policy import Settings
from container_provisioner.provisioner import ContainerProvisioner
from container_provisioner.pruning import find_leftovers, prune
from container_provisioner.spec import Mount
from container_provisioner.topology import OwnContainer, Topology, topology_of
from container_provisioner.workspace import Workspace, check_mounts, choose_workspace

from .fake_engine import FakeEngine

ID = "1a2b3c4d5e6f" + 52 * "0"
OTHER = 64 * "9"
DOCKER_MOUNTS = (
    f"1 2 8:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/a rw\n"
    f"3 2 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/a rw\n"
    f"4 2 8:1 /var/lib/docker/volumes/{OTHER}/_data /data rw - ext4 /dev/a rw\n"
)
PODMAN_MOUNTS = (
    f"1 2 0:5 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"
)
OWN = OwnContainer(
    id=ID,
    mounts=(
        Mount(source="/var/lib/docker/volumes/work/_data", target="/work"),
        Mount(source="", target="/work/scratch"),
        Mount(source="/srv/data", target="/work/data"),
    ),
    networks={"front": False},
)


@pytest.mark.parametrize(
    ("sign", "file", "text", "hostname", "ids"),
    [
        ("", "mountinfo", DOCKER_MOUNTS, ID[:12], []),  # a host's kernel has them, too
        (".dockerenv", "mountinfo", DOCKER_MOUNTS, "lab", [ID]),
        (".dockerenv", "mountinfo", DOCKER_MOUNTS, ID[:12], [ID, ID[:12]]),
        ("run/.containerenv", "mountinfo", PODMAN_MOUNTS, "lab", [ID]),
        (".dockerenv", "cgroup", f"5:memory:/docker/{ID}\n4:cpu:/docker/{ID}\n", "lab", [ID]),
        (".dockerenv", "cgroup", f"0::/system.slice/docker-{ID}.scope\n", "lab", [ID]),
        (".dockerenv", "cgroup", "0::/\n", "lab", []),
    ],
    ids=["host", "mounts", "hostname", "podman", "cgroup-v1", "cgroup-v2", "nothing"],
)
def test_what_a_process_can_know_of_its_own_container(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sign: str,
    file: str,
    text: str,
    hostname: str,
    ids: list[str],
):
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    (tmp_path / "run").mkdir()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self" / file).write_text(text)
    if sign:
        (tmp_path / sign).touch()
    assert list(own_ids(tmp_path)) == ids


class Inspected(FakeEngine):
    """An engine with one container more, which is this process's."""

    found: ContainerInfo | None = None

    def inspect(self, container: str) -> ContainerInfo:
        self.calls["inspect"] += 1
        found = self.found
        if found is not None and (found.id.startswith(container) or found.name == container):
            return found
        raise ContainerGone(f"No such container: {container}")

    def networks(self, name: str) -> list[NetworkInfo]:
        return [NetworkInfo(id=name, name=name, internal=name == "closed")]


@pytest.fixture
def in_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root directory as it is in a container called `ID`."""
    monkeypatch.setattr(socket, "gethostname", lambda: ID[:12])
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / ".dockerenv").touch()
    return tmp_path


INSPECTED = ContainerInfo(
    id=ID,
    name="lab",
    state="running",
    labels={"a": "label"},
    network="front",
    addresses={"front": "172.20.0.3", "closed": "172.21.0.3", "engine": "127.0.0.1"},
    mounts=(Mount(source="/srv", target="/data"),),
    volumes=(Mount(source="/var/lib/docker/volumes/v/_data", target="/work"),),
)


def test_what_the_engine_says_of_it(in_container: Path):
    """The network of the engine is told by the address that this process has in it."""
    engine = Inspected("tcp://127.0.0.1:2375")
    engine.found = INSPECTED
    assert find_own_container(engine, in_container) == OwnContainer(
        id=ID,
        mounts=(*INSPECTED.mounts, *INSPECTED.volumes),
        networks={"closed": True, "engine": False, "front": False},
        engine_network="engine",
        labels={"a": "label"},
    )


def test_another_container_of_that_name_is_not_it(in_container: Path):
    engine = Inspected()
    engine.found = replace(INSPECTED, id=OTHER, name=ID[:12])
    assert find_own_container(engine, in_container) is None


def test_a_container_of_another_engine(in_container: Path):
    """An engine that runs in the same container, or on another host."""
    assert find_own_container(Inspected(), in_container) is None


async def test_a_host_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("container_provisioner.engine.calls.own_ids", lambda: own_ids(tmp_path))
    engine = Engine(fake := Inspected())
    await engine.look_around()
    engine.close()
    assert (engine.own, fake.calls["inspect"]) == (None, 0)


async def test_its_network_without_a_way_out_is_pruned(runtime_dir: Path):
    """By the name that it was made with: the engine's URL alone would mean another host."""
    engine = Engine(FakeEngine("tcp://engine:2375"))
    engine.own = OWN
    await ensure_internal_network(engine)
    (found,) = await find_leftovers(engine)
    assert (found.kind, found.name) == ("network", INTERNAL_NETWORK)
    await prune(engine, logging.getLogger(__name__))
    assert await engine.networks(INTERNAL_NETWORK) == []
    engine.close()


def test_what_is_mounted_in_an_inspection():
    body: dict[str, Any] = {
        "Id": ID,
        "Name": "/lab",
        "State": {"Status": "running"},
        "HostConfig": {"Tmpfs": {"/tmp": ""}},
        "Mounts": [
            {"Type": "bind", "Source": "/srv", "Destination": "/data", "RW": True},
            {"Type": "volume", "Source": "/v/_data", "Destination": "/work", "RW": False},
            {"Type": "tmpfs", "Source": "", "Destination": "/scratch", "RW": True},
        ],
    }
    info = container_info(body)
    assert info.mounts == (Mount(source="/srv", target="/data", read_only=False),)
    assert info.volumes == (
        Mount(source="/v/_data", target="/work", read_only=True),
        Mount(source="", target="/scratch", read_only=False),
        Mount(source="", target="/tmp", read_only=False),
    )


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/work", "/var/lib/docker/volumes/work/_data"),
        ("/work/a/b", "/var/lib/docker/volumes/work/_data/a/b"),
        ("/work/data/c", "/srv/data/c"),
        ("/work/scratch/c", None),
        ("/workshop", None),
        ("/work/../etc", None),
        ("/", None),
    ],
)
def test_what_a_path_is_called_on_the_engines_host(path: str, there: str | None):
    """F25."""
    assert Topology(own=OWN).host_path(path) == there


def test_what_can_only_be_read_here_can_only_be_read_there():
    mounts = (
        Mount(source="/srv/a", target="/a", read_only=True),
        Mount(source="/srv/b", target="/b", read_only=False),
    )
    topology = Topology(own=replace(OWN, mounts=mounts))
    for source, read_only, then in (("/a", False, True), ("/b", False, False), ("/b", True, True)):
        asked = Mount(source=source, target="/x", read_only=read_only)
        given = Mount(source=f"/srv{source}", target="/x", read_only=then)
        assert topology.for_engine(asked) == given
    asked = Mount(source="/a", target="/x", read_only=False)
    assert Topology().for_engine(asked) == asked
    assert topology_of("tcp://10.0.0.2:2376").for_engine(asked) == asked


def test_paths_of_others():
    assert Topology().host_path("/work") == "/work"
    assert topology_of("tcp://10.0.0.2:2376").host_path("/work") is None


def test_a_link_leads_to_the_mount(tmp_path: Path):
    (tmp_path / "link").symlink_to("volume")
    mount = Mount(source="/srv", target=str(tmp_path / "volume"))
    topology = Topology(own=replace(OWN, mounts=(mount,)))
    assert topology.host_path(str(tmp_path / "link" / "a")) == "/srv/a"


def test_a_proxy_is_not_another_host():
    """Whatever the URL: the engine that has this process's container is here."""
    proxied = topology_of("tcp://engine:2375", own=OWN, private="/work/runtime")
    assert proxied.shares_files
    assert not proxied.is_remote
    assert proxied.address == ""
    assert not topology_of("tcp://engine:2375", own=OWN, private="/tmp/runtime").shares_files


@pytest.mark.parametrize(
    ("networks", "engine_network", "chosen"),
    [
        ({"front": False}, "", "front"),
        ({"front": False, "engine": True}, "engine", "front"),
        ({"engine": True}, "engine", ""),
        ({"front": False, "kernels": True}, "", "kernels"),
        ({"front": False, "kernels": True, "engine": True}, "engine", "kernels"),
        ({"front": False, "back": False}, "", ""),
        ({}, "", ""),
    ],
)
def test_the_network_that_kernels_join(networks: dict[str, bool], engine_network: str, chosen: str):
    own = replace(OWN, networks=networks, engine_network=engine_network)
    assert own.network == chosen


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of private directories, on a mount."""
    path = "/work/runtime/container-provisioner"
    monkeypatch.setattr("container_provisioner.config.private_root", lambda: path)
    return path


def chosen(own: OwnContainer = OWN, **stanza: Any) -> Settings:
    stanza = {"image": "kernel:1", **stanza}
    return ContainerProvisioner(**stanza).settings("tcp://engine:2375", own)


NOWHERE = replace(OWN, mounts=())


@pytest.mark.parametrize(
    ("own", "stanza", "transport", "network"),
    [
        (OWN, {}, "ipc", "none"),
        (OWN, {"profile": "dev"}, "ipc", "bridge"),
        (OWN, {"transport": "tcp"}, "network", "front"),
        (OWN, {"transport": "network"}, "network", "front"),
        (NOWHERE, {}, "network", "front"),
        (NOWHERE, {"profile": "dev"}, "network", "front"),
        (replace(NOWHERE, networks={"a": False, "b": False}), {"network": "b"}, "network", "b"),
        (replace(NOWHERE, on_host_network=True), {}, "tcp", "internal"),
    ],
)
def test_what_follows(
    private: str, own: OwnContainer, stanza: dict[str, Any], transport: str, network: str
):
    settings = chosen(own, **stanza)
    assert (settings.transport, settings.network) == (transport, network)


@pytest.mark.parametrize(
    ("own", "stanza", "says"),
    [
        (OWN, {"image": ""}, "Set image to one with a kernel"),
        (NOWHERE, {"transport": "ipc"}, "/work/runtime.* is on no mount of this server's"),
        (NOWHERE, {"network": "lab"}, "'lab' is not one of them. Set network"),
        (NOWHERE, {"network": "internal"}, r"\(front\): 'internal' is not one of them"),
        (
            replace(NOWHERE, networks={"a": False, "b": False}),
            {},
            r"\(a, b\): it is not clear",
        ),
        (replace(OWN, engine_network="front"), {"network": "front"}, "would have the engine"),
    ],
    ids=["host-environment", "ipc", "another", "internal", "several", "engine"],
)
def test_what_cannot_be_is_refused(
    private: str, own: OwnContainer, stanza: dict[str, Any], says: str
):
    with pytest.raises(ConfigurationError, match=says):
        chosen(own, **stanza)


def workspace_of(own: OwnContainer, *, named: bool) -> Settings:
    topology = topology_of("unix:///x", own=own, private="/tmp/runtime")
    return Settings(image="kernel:1", workspace_named=named, topology=topology)


def test_a_folder_on_no_mount(tmp_path: Path):
    """F25: refused with both paths when it was asked for, else not mounted, and that is said."""
    with pytest.raises(WorkspaceError, match="is on no mount of this server's") as raised:
        choose_workspace(str(tmp_path), workspace_of(OWN, named=True))
    assert f"{str(tmp_path)!r} of its own host" in str(raised.value)
    assert "/work is /var/lib/docker/volumes/work/_data" in str(raised.value)
    place = choose_workspace(str(tmp_path), workspace_of(OWN, named=False))
    assert place.mount is None
    assert "is on no mount of this server's" in place.notice


def test_a_folder_on_a_mount(tmp_path: Path):
    """By the name that it has here: it is translated where the container is defined."""
    own = replace(OWN, mounts=(Mount(source="/srv/notebooks", target=str(tmp_path)),))
    mount = Mount(source=str(tmp_path), target=str(tmp_path))
    place = choose_workspace(str(tmp_path), workspace_of(own, named=True))
    assert place == Workspace(cwd=str(tmp_path), mount=mount)


def test_a_folder_that_is_the_whole_filesystem_there(tmp_path: Path):
    own = replace(OWN, mounts=(Mount(source="/", target=str(tmp_path)),))
    assert choose_workspace(str(tmp_path), workspace_of(own, named=True)).mount is None


def test_jupyters_own_folder_by_another_name(tmp_path: Path):
    """One folder of the host, mounted twice."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    mounts = tuple(Mount(source="/srv", target=str(tmp_path / name)) for name in ("a", "b"))
    settings = workspace_of(replace(OWN, mounts=mounts), named=False)
    place = choose_workspace(str(tmp_path / "a"), settings, runtime=tmp_path / "b" / "runtime")
    assert place.mount is None
    assert "holds Jupyter's runtime directory" in place.notice


@pytest.mark.parametrize("source", ["/", "/run", "/var/run", "/run/docker.sock"])
def test_the_engines_socket_by_another_name(tmp_path: Path, source: str):
    """A mount of a mount of the host's own directories."""
    own = replace(OWN, mounts=(Mount(source=source, target=str(tmp_path)),))
    with pytest.raises(WorkspaceError, match="holds the engine's socket"):
        check_mounts(
            [Mount(source=str(tmp_path), target="/x")],
            engine_socket="/nowhere/engine.sock",
            topology=Topology(own=own),
        )


def test_mounts_have_to_be_on_a_mount(tmp_path: Path):
    with pytest.raises(WorkspaceError, match=r"mounts: .* is on no mount of this server's"):
        check_mounts(
            [Mount(source=str(tmp_path), target="/x")],
            engine_socket="",
            topology=Topology(own=OWN),
        )


def test_a_kernel_is_a_part_of_its_servers_project():
    own = replace(
        OWN,
        labels={"com.docker.compose.project": "lab", "com.docker.compose.service": "jupyter"},
    )
    assert own.project_labels == {
        "com.docker.compose.project": "lab",
        "com.docker.compose.service": "jupyter-kernel",
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.config-hash": "kernel",
    }
    assert OWN.project_labels == {}
