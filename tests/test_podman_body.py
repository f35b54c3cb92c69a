"""What Podman is asked for, without one: its own words for what Docker's API says otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from container_provisioner.engine.podman import PodmanEngine
from container_provisioner.errors import ConfigurationError, RuntimeMissing, WorkspaceError
from container_provisioner.spec import ContainerSpec, Mount, Tmpfs

SPEC = ContainerSpec(
    name="kernel",
    image="image:1",
    argv=("python",),
    user="1000:1000",
    tmpfs=(
        Tmpfs(target="/tmp", size=2**20),
        Tmpfs(target="/home/kernel", size=2**20, mode=0o700, uid=1000, gid=1000),
    ),
)


@pytest.fixture
def engine() -> PodmanEngine:
    return PodmanEngine("unix:///nobody/listens.sock")


def test_the_owner_of_memory_is_the_containers_user(engine: PodmanEngine):
    """And what Podman adds by itself, when the root is read-only, cannot be written."""
    tmpfs = engine._body(SPEC)["HostConfig"]["Tmpfs"]
    common = "rw,exec,nosuid,nodev,size=1048576"
    assert tmpfs["/tmp"] == f"{common},mode=1777"
    assert tmpfs["/home/kernel"] == f"{common},mode=700,U"
    assert {path for path, options in tmpfs.items() if options.startswith("ro,")} == {
        "/run",
        "/var/tmp",
    }
    assert set(engine._body(replace(SPEC, read_only=False))["HostConfig"]["Tmpfs"]) == {
        "/tmp",
        "/home/kernel",
    }


def test_rootless_the_kernel_is_its_caller(engine: PodmanEngine):
    assert "UsernsMode" not in engine._body(SPEC)["HostConfig"]
    engine._rootless = True
    assert engine._body(SPEC)["HostConfig"]["UsernsMode"] == "keep-id"
    assert "UsernsMode" not in engine._body(replace(SPEC, user=""))["HostConfig"]


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"runtime": "runsc"}, RuntimeMissing, "runsc.*containers.conf"),
        ({"gpus": "all"}, ConfigurationError, "gpus"),
        ({"mounts": (Mount(source="/no/such", target="/mnt"),)}, WorkspaceError, "/no/such"),
    ],
)
def test_what_it_would_leave_out_is_refused(
    engine: PodmanEngine, fields: dict[str, object], error: type[Exception], words: str
):
    """A kernel that was to run under gVisor must not run without; nobody is asked."""
    with pytest.raises(error, match=words):
        engine.create(replace(SPEC, **fields))
    assert not Path("/no/such").exists()
