"""What cannot be done is refused with one clear error, and nothing of it is left."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError

from container_provisioner import errors

from .conftest import ROOT_IMAGE, StartKernel
from .ends import left_below

pytestmark = pytest.mark.docker

NOWHERE = "localhost:1/no-such-image:1"  # a registry that nobody runs

# The stanza, the error, and what its message has to say: the value, the reason, the next step.
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], list[str]]] = {
    "image that cannot be pulled": (
        {"image": NOWHERE},
        errors.PullFailed,
        [repr(NOWHERE), "could not be pulled", "connection refused", "Check its name"],
    ),
    "image that may not be pulled": (
        {"image": NOWHERE, "pull_policy": "never"},
        errors.ImageMissing,
        [repr(NOWHERE), "not present", "pull_policy='missing'"],
    ),
    "image that is no name": (
        {"image": "Not A Name"},
        errors.ConfigurationError,
        ["Not A Name", "invalid reference format", "One looks like"],
    ),
    "engine that is not there": (
        {"engine_url": "unix:///nowhere.sock"},
        errors.EngineNotFound,
        ["unix:///nowhere.sock (no such file or directory)", "installed and running"],
    ),
    "engine at no address": (
        {"engine_url": "http://192.0.2.1:2375"},
        errors.ConfigurationError,
        ["engine_url 'http://192.0.2.1:2375' is no address of an engine", "unix://", "ssh://"],
    ),
    "engine without certificates": (
        {"engine_url": "tcp://192.0.2.1:2376?tls=/no/such"},
        errors.ConfigurationError,
        ["/no/such holds no ca.pem, cert.pem, key.pem", "name the folder"],
    ),
    "mount of nothing": (
        {"mounts": ["/no/such/place:/data"]},
        errors.WorkspaceError,
        ["mounts: '/no/such/place' does not exist", "Create it"],
    ),
    "runtime that the engine lacks": (
        {"runtime": "no-such-runtime"},
        errors.RuntimeMissing,
        ["'no-such-runtime'", "Nothing was started without it", "unset runtime"],
    ),
    "network that does not exist": (
        {"network": "no-such-network"},
        errors.EngineError,
        ["network no-such-network not found", "Create that network"],
    ),
    "network of the host": (
        {"network": "host"},
        errors.ConfigurationError,
        ["network 'host'", "loopback", "Use 'bridge'"],
    ),
    "root by number": (
        {"user": "0"},
        errors.UserRefused,
        ["user='0' is root", "allow_root=True"],
    ),
    "root by another spelling": (
        {"user": "00:0"},
        errors.UserRefused,
        ["user='00:0' is root", "allow_root=True"],
    ),
    "image whose user is root": (
        {"image": ROOT_IMAGE, "user": "image"},
        errors.UserRefused,
        ["user='image' is root", "allow_root=True"],
    ),
    "image's user without an image": (
        {"user": "image"},
        errors.UserRefused,
        ["user='image' needs an image"],
    ),
    "tcp without a network": (
        {"transport": "tcp", "network": "none"},
        errors.ConfigurationError,
        ["transport 'tcp' needs a network", "profile 'sandbox'", "network='internal'"],
    ),
    "GPUs on a machine without": (
        {"gpus": "all"},
        errors.EngineError,
        ["could not select device driver", "container toolkit", "unset gpus"],
    ),
    "options that would undo the sandbox": (
        {"extra_create_options": {"HostConfig": {"Privileged": True}}},
        errors.ConfigurationError,
        ["extra_create_options may not set HostConfig.Privileged", "sandbox"],
    ),
    "program that is not installed": (
        {"argv": ["no-such-program"]},
        errors.ConfigurationError,
        ["no program 'no-such-program'", "argv", "set image"],
    ),
    "variable that cannot be": (
        {"env": {"A-B": "1"}},
        errors.ConfigurationError,
        ["'A-B'", "environment"],
    ),
    "kernel that is not ready in time": (
        {"argv": ["sleep", "1000"], "start_timeout": 2},
        errors.StartTimeout,
        ["within 2 s (start_timeout)", "was removed", "transport='tcp'"],
    ),
    "folder that is not there": (
        {"launch": {"cwd": "/no/such/folder"}},
        errors.WorkspaceError,
        ["'/no/such/folder' is not a directory"],
    ),
}


def error_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_at_launch(
    start_kernel: StartKernel, runtime_dir: Path, caplog: pytest.LogCaptureFixture, case: str
):
    stanza, error, facts = REFUSED[case]
    with pytest.raises(error) as raised:
        await start_kernel(**stanza)
    message = str(raised.value)
    assert {fact: fact in message for fact in facts} == dict.fromkeys(facts, True)
    assert re.match(r"Kernel [0-9a-f-]{36}: ", message)
    assert left_below(runtime_dir) == []
    assert error_lines(caplog) == [message]


# Refused when it is read, before there is a kernel to speak of.
MALFORMED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "memory limit": ({"memory_limit": "lots"}, ["memory_limit", "'lots'", "'512m'"]),
    "profile": ({"profile": "castle"}, ["profile", "'castle'", "sandbox", "dev"]),
    "user": ({"user": "root"}, ["user", "'root'", "uid:gid"]),
    "gpus": ({"gpus": "many"}, ["gpus", "'many'", "all"]),
    "cpu limit": ({"cpu_limit": -1}, ["cpu_limit", "-1"]),
    "pids limit": ({"pids_limit": "all"}, ["pids_limit", "'all'"]),
    "timeout": ({"start_timeout": 0}, ["start_timeout", "0"]),
    "transport": ({"transport": "pigeon"}, ["transport", "'pigeon'", "ipc"]),
    "restart mode": ({"restart_mode": "maybe"}, ["restart_mode", "'maybe'", "recreate"]),
    "relative mount": ({"mounts": ["data:/data"]}, ["mounts", "'data:/data'", "absolute"]),
    "engine's socket": (
        {"mounts": ["/var/run/docker.sock:/engine"]},
        ["mounts", "/var/run/docker.sock", "hand the engine to the kernel"],
    ),
    "misspelt setting": ({"memroy_limit": "1g"}, ["'memroy_limit'", "'memory_limit'"]),
    "unknown setting": ({"colour": "red"}, ["no setting 'colour'"]),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_refused_when_it_is_read(start_kernel: StartKernel, runtime_dir: Path, case: str):
    stanza, facts = MALFORMED[case]
    with pytest.raises(TraitError) as raised:
        await start_kernel(**stanza)
    message = str(raised.value)
    assert {fact: fact in message for fact in facts} == dict.fromkeys(facts, True)
    assert left_below(runtime_dir) == []


async def test_root_is_accepted_when_it_is_allowed(start_kernel: StartKernel):
    kernel = await start_kernel(user="0", allow_root=True)
    assert await kernel.run("import os; os.getuid()") == "0"


async def test_malformed_variable_is_named_as_where_the_value_comes_from(
    start_kernel: StartKernel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CONTAINER_PROVISIONER_PROFILE", "castle")
    with pytest.raises(TraitError, match="CONTAINER_PROVISIONER_PROFILE='castle'"):
        await start_kernel()
