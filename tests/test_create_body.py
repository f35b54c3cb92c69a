"""What is asked of the engine: the hardening, whole, and what nobody may ask for besides."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from container_provisioner.engine.create_body import RESERVED, check_extra, create_body
from container_provisioner.engine.docker_engine import DockerEngine
from container_provisioner.errors import ConfigurationError
from container_provisioner.spec import ContainerSpec, Limits, Mount, Tmpfs

from .conftest import PLAIN_IMAGE
from .docker_url import DOCKER_URL

SPEC = ContainerSpec(
    name="jupyter-kernel-1",
    image="kernel:1",
    argv=("python", "-m", "ipykernel_launcher"),
    labels={"a": "label"},
    environment={"LANG": "C.UTF-8"},
    working_dir="/notebooks",
    user="1000:1000",
    mounts=(
        Mount(source="/notebooks", target="/notebooks"),
        Mount(source="/data", target="/mnt/data", read_only=False),
    ),
    tmpfs=(Tmpfs(target="/home/kernel", size=512, mode=0o700, uid=1000, gid=1000),),
    limits=Limits(memory=2 * 1024**3, cpus=1.5, pids=512, shm_size=64 * 1024**2),
)


def bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
    }


BODY = {
    "Image": "kernel:1",
    "Entrypoint": ["python"],
    "Cmd": ["-m", "ipykernel_launcher"],
    "User": "1000:1000",
    "Hostname": "kernel",
    "Env": ["LANG=C.UTF-8"],
    "WorkingDir": "/notebooks",
    "Labels": {"a": "label"},
    "Healthcheck": {"Test": ["NONE"]},
    "NetworkDisabled": True,
    "ExposedPorts": {},
    "HostConfig": {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "NetworkMode": "none",
        "IpcMode": "private",
        "ReadonlyRootfs": True,
        "Mounts": [
            bind("/notebooks", "/notebooks", read_only=True),
            bind("/data", "/mnt/data", read_only=False),
        ],
        "Tmpfs": {
            "/home/kernel": "rw,exec,nosuid,nodev,size=512,mode=700,uid=1000,gid=1000",
        },
        "PortBindings": {},
        "Memory": 2147483648,
        "MemorySwap": 2147483648,
        "NanoCpus": 1500000000,
        "PidsLimit": 512,
        "ShmSize": 67108864,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "1"}},
    },
}


def changed(spec: ContainerSpec, **fields: Any) -> dict[str, Any]:
    """The body of a spec with other fields, as far as it differs from `BODY`."""
    body = create_body(ContainerSpec(**{**vars(spec), **fields}))
    host = body.pop("HostConfig")
    return {
        **{name: value for name, value in body.items() if value != BODY.get(name)},
        **{name: value for name, value in host.items() if value != BODY["HostConfig"].get(name)},
    }


def test_the_whole_request():
    assert create_body(SPEC) == BODY


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        (
            {"network": "bridge", "published_ports": (28501,)},
            {
                "NetworkDisabled": False,
                "NetworkMode": "bridge",
                "ExposedPorts": {"28501/tcp": {}},
                "PortBindings": {"28501/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            },
        ),
        (
            {"network": "container-provisioner-internal"},
            {
                "NetworkDisabled": False,
                "NetworkMode": "container-provisioner-internal",
                "Dns": ["127.0.0.1"],
                "DnsOptions": ["timeout:1", "attempts:1"],
            },
        ),
        (
            {"limits": Limits()},
            {"Memory": 0, "MemorySwap": 0, "NanoCpus": 0, "PidsLimit": 0, "ShmSize": 0},
        ),
        ({"read_only": False}, {"ReadonlyRootfs": False}),
        ({"runtime": "runsc"}, {"NetworkDisabled": False, "Runtime": "runsc"}),
        (
            {"gpus": "all"},
            {"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]], "Count": -1}]},
        ),
        (
            {"gpus": "2"},
            {"DeviceRequests": [{"Driver": "", "Capabilities": [["gpu"]], "Count": 2}]},
        ),
        (
            {"gpus": "device=0,GPU-4f"},
            {
                "DeviceRequests": [
                    {"Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": ["0", "GPU-4f"]}
                ]
            },
        ),
    ],
    ids=[
        "network",
        "internal",
        "no-limits",
        "writable",
        "runtime",
        "gpus-all",
        "gpus-2",
        "gpus-device",
    ],
)
def test_each_setting_changes_its_own_fields_and_no_other(
    fields: dict[str, Any], difference: dict[str, Any]
):
    assert changed(SPEC, **fields) == difference


def test_extra_options_are_merged_level_by_level():
    extra = {
        "StopSignal": "SIGTERM",
        "HostConfig": {"Ulimits": [], "LogConfig": {"Config": {"max-file": "2"}}},
    }
    check_extra(extra)
    assert changed(SPEC, extra=extra) == {
        "StopSignal": "SIGTERM",
        "Ulimits": [],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760", "max-file": "2"}},
    }


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper])
def test_what_makes_the_sandbox_cannot_be_set_in_any_spelling(spelled: Any):
    """The engine takes ``privileged`` for ``Privileged``."""
    for name in RESERVED[""]:
        with pytest.raises(ConfigurationError, match=f"may not set {spelled(name)}:"):
            check_extra({spelled(name): {}})
    for name in RESERVED["HostConfig"]:
        with pytest.raises(ConfigurationError, match=f"may not set HostConfig.{spelled(name)}:"):
            check_extra({"HostConfig": {spelled(name): True}})
    for extra in ({"HostConfig": []}, {"hostConfig": {"Privileged": True}, "HostConfig": {}}):
        with pytest.raises(ConfigurationError, match="HostConfig"):
            check_extra(extra)


def test_every_field_that_the_package_decides_is_reserved_or_meant_to_be_changed():
    changeable = {"Entrypoint", "Hostname", "ExposedPorts", "HostConfig"}
    assert BODY.keys() - RESERVED[""] == changeable
    assert BODY["HostConfig"].keys() - RESERVED["HostConfig"] == {"PortBindings", "LogConfig"}


@pytest.mark.docker
def test_the_engine_understands_it_as_we_mean_it(docker_client: docker.DockerClient):
    """The engine's own account of a container equals what was asked for."""
    engine = DockerEngine(DOCKER_URL)
    container = engine.create(ContainerSpec(**{**vars(SPEC), "image": PLAIN_IMAGE, "mounts": ()}))
    try:
        host = docker_client.api.inspect_container(container)["HostConfig"]
    finally:
        engine.remove(container)
        engine.close()
    asked = {**BODY["HostConfig"], "Mounts": None}
    assert {name: host.get(name) for name in asked} == asked
    assert host["Privileged"] is False
    assert host["AutoRemove"] is False
