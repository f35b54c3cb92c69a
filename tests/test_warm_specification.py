"""Which launches a container that waits can serve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.command import KernelCommand
from container_provisioner.definition import LaunchRequest, container_spec
from container_provisioner.policy import KernelUser, Settings
from container_provisioner.preparation import Preparation
from container_provisioner.root import RootFilesystem
from container_provisioner.spec import Limits, Mount, Placement
from container_provisioner.store import KernelDirectory
from container_provisioner.topology import Topology
from container_provisioner.transports import IpcTransport, TcpTransport
from container_provisioner.warm.specification import (
    can_be_warm,
    of_session,
    specification_digest,
    waiting_spec,
)
from container_provisioner.workspace import Workspace

from .conftest import own_jupyter

STANDBY = "/run/kernel/standby.py"
LAUNCHER = ("-m", "ipykernel_launcher", "-f", "/run/kernel/connection.json")


SESSION = {"JPY_SESSION_NAME": "a", "KERNEL_USERNAME": "b"}
ENVIRONMENT = {"LANG": "C.UTF-8", "TOKEN": "secret", **SESSION}


def prepared(
    *,
    settings: dict[str, Any] | None = None,
    root: dict[str, Any] | None = None,
    user: KernelUser = KernelUser(1, 1),  # noqa: B008 - frozen
    place: Workspace = Workspace(cwd="/n", mount=Mount(source="/n", target="/n")),  # noqa: B008
    **request: Any,
) -> Preparation:
    """A launch, with something about it changed."""
    chosen = Settings(**(settings or {}))
    of = LaunchRequest(
        **{
            "kernel_id": "one",
            "kernel_name": "contained",
            "command": KernelCommand(argv=("python", *LAUNCHER), uses_resources=False),
            "environment": ENVIRONMENT,
            "folder": "/n",
            "resource_dir": "/kernels/contained",
            "connection_info": {"key": b"a"},
            "settings": chosen,
            "transport": IpcTransport(),
            **request,
        }
    )
    filesystem = RootFilesystem(
        **{
            "image": "i",
            "title": "i",
            "argv": of.command.argv,
            "version": "sha256:1",
            **(root or {}),
        }
    )
    directory = KernelDirectory.of(of.kernel_id)
    spec = container_spec(of, root=filesystem, user=user, workspace=place, directory=directory)
    return Preparation(
        request=of, root=filesystem, user=user, workspace=place, directory=directory, spec=spec
    )


def digest_of(**launch: Any) -> str:
    return specification_digest(prepared(**launch), "unix:///engine.sock")


# Each alone makes a container useless for the launch.
MATTERS: dict[str, dict[str, Any]] = {
    "another image": {"root": {"image": "j"}},
    "another image of that name": {"root": {"version": "sha256:2"}},
    "variables of the root": {"root": {"environment": {"PATH": "/bin"}}},
    "mounts of the root": {"root": {"mounts": (Mount(source="/usr", target="/usr"),)}},
    "interpreter": {"root": {"argv": ("python3", *LAUNCHER)}},
    "a variable": {"environment": {**ENVIRONMENT, "NEW": ""}},
    "a secret": {"environment": {**ENVIRONMENT, "TOKEN": "other"}},
    "one variable less": {"environment": {"LANG": "C.UTF-8"}},
    "locale": {"environment": {**ENVIRONMENT, "LANG": "C"}},
    "kernelspec": {"kernel_name": "other"},
    "its files": {
        "command": KernelCommand(argv=("python", *LAUNCHER), uses_resources=True),
    },
    "user": {"user": KernelUser(1, 2)},
    "folder": {"place": Workspace(cwd="/o", mount=Mount(source="/o", target="/o"))},
    "place in the folder": {"place": Workspace(cwd="/n/b", mount=Mount(source="/n", target="/n"))},
    "folder that may be written": {
        "place": Workspace(cwd="/n", mount=Mount(source="/n", target="/n", read_only=False))
    },
    "ports": {"transport": TcpTransport()},
    "kernel that encrypts": {"connection_info": {"key": b"a", "curve_secretkey": b"b"}},
}
SETTINGS_THAT_MATTER: dict[str, Any] = {
    "topology": Topology(shares_files=False, address="10.0.0.2"),
    "transport": "network",
    "network": "bridge",
    "read_only": False,
    "limits": Limits(cpus=1),
    "gpus": "all",
    "runtime": "runsc",
    "mounts": (Mount(source="/m", target="/m"),),
    "extra_create_options": {"HostConfig": {"Ulimits": []}},
    "placement": Placement(),
}
SETTINGS_THAT_DO_NOT: dict[str, Any] = {
    # They show in what else there is: the engine's address, the root, the user, the folder.
    "engine": "podman",
    "engine_url": "unix:///other.sock",
    "image": "j",
    "user": "2:2",
    "env": {"A": "b"},
    "env_passthrough": ("A",),
    "workspace": "rw",
    "profile": "dev",
    "workspace_named": True,
    "allow_root": True,
    "allow_plaintext": True,
    # Of how it is come by, and what is done with it later.
    "restart_mode": "recreate",
    "warm_pool_size": 7,
    "on_server_exit": "keep",
    "max_idle": 1.0,
    "pull_policy": "always",
    "pull_timeout": 1.0,
    "start_timeout": 1.0,
}
OF_ONE_KERNEL: dict[str, dict[str, Any]] = {
    "id, and directory": {"kernel_id": "two"},
    "key": {"connection_info": {"key": b"b"}},
    "session": {"environment": {**ENVIRONMENT, "JPY_SESSION_NAME": "c", "KERNEL_NEW": "d"}},
    "neither": {"environment": {"LANG": "C.UTF-8", "TOKEN": "secret"}},
    "order": {"environment": dict(reversed(ENVIRONMENT.items()))},
    "server": {"server": "/srv"},
}


@pytest.fixture(autouse=True)
def jupyter() -> Iterator[Path]:
    with own_jupyter() as runtime_dir:
        yield runtime_dir


def test_every_setting_is_thought_of():
    assert SETTINGS_THAT_MATTER.keys() | SETTINGS_THAT_DO_NOT.keys() == {
        field.name for field in fields(Settings)
    }
    assert not SETTINGS_THAT_MATTER.keys() & SETTINGS_THAT_DO_NOT.keys()


def test_whatever_matters_gives_other_digits():
    launches = {
        "as it is": {},
        **MATTERS,
        **{name: {"settings": {name: value}} for name, value in SETTINGS_THAT_MATTER.items()},
    }
    digests = {name: digest_of(**launch) for name, launch in launches.items()}
    digests["engine"] = specification_digest(prepared(), "unix:///other.sock")
    same = {name for name, digest in digests.items() if [*digests.values()].count(digest) > 1}
    assert not same


def test_what_is_one_kernels_own_does_not():
    launches = {
        **OF_ONE_KERNEL,
        **{name: {"settings": {name: value}} for name, value in SETTINGS_THAT_DO_NOT.items()},
    }
    digests = {name: digest_of(**launch) for name, launch in launches.items()}
    assert digests == dict.fromkeys(launches, digest_of())


def test_digits_cannot_be_guessed_elsewhere():
    """They stand in a label, and a secret is part of what they are made from."""
    first = digest_of()
    with own_jupyter():
        assert digest_of() != first
    assert digest_of() == first
    assert len(first) == 16


# -- what waits ----------------------------------------------------------------------------------


def test_a_session_is_what_the_server_says_of_one_notebook():
    assert of_session(ENVIRONMENT) == SESSION


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        ({}, True),
        ({"connection_info": {"curve_secretkey": b"k"}}, False),
        ({"root": {"argv": ("deno", "jupyter")}}, False),
    ],
    ids=["ipykernel", "encrypted", "deno"],
)
def test_what_can_wait(launch: dict[str, Any], expected: bool):
    assert can_be_warm(prepared(**launch)) is expected


@pytest.mark.parametrize(
    ("environment", "shell"),
    [
        ({"LANG": "C"}, ()),
        (ENVIRONMENT, ("/bin/sh", "-c", '. /run/kernel/environment; exec "$0" "$@"')),
    ],
    ids=["plain", "chosen"],
)
def test_what_waits_is_the_same_container_with_another_command(
    environment: dict[str, str], shell: tuple[str, ...]
):
    launch = prepared(environment=environment)
    command = ("python", *LAUNCHER)
    assert launch.spec.argv == (*shell, *command)
    argv = (*shell, "python", STANDBY, *command)
    assert waiting_spec(launch) == replace(launch.spec, argv=argv)
