"""Every setting: its default, and where its value comes from."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from traitlets.config import Config

from container_provisioner.config import ContainerSettings
from container_provisioner.policy import Settings
from container_provisioner.provisioner import ContainerProvisioner
from container_provisioner.spec import Limits, Mount

# name: default; another value; that value in an environment variable; a third value
TRAITS: dict[str, tuple[Any, Any, str, Any]] = {
    "image": ("", "kernel:1", "kernel:1", "kernel:2"),
    "engine": ("auto", "docker", "docker", "podman"),
    "engine_url": ("", "unix:///x", "unix:///x", "unix:///y"),
    "engine_host": ("", "10.0.0.2", "10.0.0.2", "engine.example"),
    "allow_plaintext": (False, True, "true", False),
    "profile": ("sandbox", "dev", "dev", "sandbox"),
    "transport": ("auto", "tcp", "tcp", "ipc"),
    "network": ("", "bridge", "bridge", "mine"),
    "workspace": ("", "rw", "rw", "none"),
    "user": ("auto", "1000:100", "1000:100", "image"),
    "allow_root": (False, True, "true", False),
    "memory_limit": ("2g", "512m", "512m", "1g"),
    "cpu_limit": (0.0, 1.5, "1.5", 2.0),
    "pids_limit": (512, 64, "64", 0),
    "shm_size": ("64m", "1g", "1g", ""),
    "gpus": ("", "all", "all", "device=0,GPU-1:2"),
    "runtime": ("", "runsc", "runsc", "kata"),
    "mounts": ([], ["/a:/b", "/c d:/e:rw"], "/a:/b, /c d:/e:rw,", ["/x:/y"]),
    "env": ({}, {"A": "1,2", "B": ""}, '{"A": "1,2", "B": ""}', {"C": "3"}),
    "env_passthrough": ([], ["A", "B_*"], "A,B_*", ["C"]),
    "restart_mode": ("in-place", "recreate", "recreate", "in-place"),
    "warm_pool_size": (0, 2, "2", 3),
    "on_server_exit": ("stop", "keep", "keep", "stop"),
    "max_idle": (0.0, 3600.0, "3600", 0.5),
    "pull_policy": ("missing", "never", "never", "always"),
    "pull_timeout": (600.0, 5.0, "5", 7.5),
    "start_timeout": (60.0, 0.5, "0.5", 7.0),
    "extra_create_options": (
        {},
        {"HostConfig": {"Ulimits": [{"Name": "nofile"}]}},
        '{"HostConfig": {"Ulimits": [{"Name": "nofile"}]}}',
        {"Hostname": "h"},
    ),
}
each_trait = pytest.mark.parametrize("name", TRAITS)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CONTAINER_PROVISIONER_")]:
        monkeypatch.delenv(name)


def variable(name: str) -> str:
    return f"CONTAINER_PROVISIONER_{name.upper()}"


def read(name: str, *, config: Any = None, **stanza: Any) -> Any:
    """The trait's value, as a factory would make the provisioner with that stanza."""
    application = {} if config is None else {"ContainerProvisioner": {name: config}}
    return getattr(ContainerProvisioner(config=Config(application), **stanza), name)


def test_every_trait_is_here() -> None:
    assert TRAITS.keys() == set(ContainerSettings.class_trait_names(config=True))


@each_trait
def test_default(name: str) -> None:
    value = read(name)
    assert (value, type(value)) == (TRAITS[name][0], type(TRAITS[name][0]))


@each_trait
def test_stanza(name: str) -> None:
    assert read(name, **{name: TRAITS[name][1]}) == TRAITS[name][1]


@each_trait
def test_application_config(name: str) -> None:
    assert read(name, config=TRAITS[name][1]) == TRAITS[name][1]


@each_trait
def test_environment_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), TRAITS[name][2])
    assert read(name) == TRAITS[name][1]


@each_trait
def test_stanza_before_config_before_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    default, value, text, other = TRAITS[name]
    monkeypatch.setenv(variable(name), text)
    assert read(name, config=other) == other
    assert read(name, config=value, **{name: other}) == other
    assert read(name, **{name: other}) == other
    assert read(name, config=default) == default


def test_a_change_of_the_environment_is_seen_by_the_next_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable("image"), "one")
    assert read("image") == "one"
    monkeypatch.setenv(variable("image"), "two")
    assert read("image") == "two"


def test_mutable_defaults_are_not_shared() -> None:
    ContainerProvisioner().env["A"] = "1"
    ContainerProvisioner().mounts.append("/a:/b")
    assert (read("env"), read("mounts")) == ({}, [])


@each_trait
def test_help_says_the_default(name: str) -> None:
    text = " ".join(str(ContainerSettings.class_traits()[name].help).split())
    default = TRAITS[name][0]
    if default in ("", [], {}):
        words = ("Empty, the default", "Default none", "Default: the engine's own")
    elif isinstance(default, str):
        words = (f"``{default}``, the default", f"Default ``{default}``", f"default ``{default}``")
    else:
        words = (f"Default {default}", f"Default {default:g}")
    assert any(word in text for word in words), text


SANDBOX = Settings(
    profile="sandbox",
    transport="ipc",
    network="none",
    workspace="ro",
    read_only=True,
    user="auto",
    limits=Limits(memory=2 * 1024**3, cpus=None, pids=512, shm_size=64 * 1024**2),
)
DEV = replace(SANDBOX, profile="dev", network="bridge", workspace="rw", read_only=False)


@pytest.mark.parametrize(
    ("stanza", "settings"),
    [
        ({}, SANDBOX),
        ({"profile": "dev"}, DEV),
        ({"network": "bridge"}, replace(SANDBOX, network="bridge")),
        ({"transport": "tcp"}, replace(SANDBOX, transport="tcp", network="internal")),
        ({"workspace": "ro"}, replace(SANDBOX, workspace_named=True)),
        (
            {"profile": "dev", "workspace": "none", "network": "none"},
            replace(DEV, network="none", workspace="none", workspace_named=True),
        ),
        (
            {"memory_limit": "", "shm_size": "", "pids_limit": 0, "cpu_limit": 0.5},
            replace(SANDBOX, limits=Limits(cpus=0.5)),
        ),
    ],
)
def test_settings_are_the_profile_and_what_overrides_it(
    stanza: dict[str, Any], settings: Settings
) -> None:
    assert ContainerProvisioner(**stanza).settings() == settings


def test_every_trait_reaches_the_settings() -> None:
    stanza = {name: values[1] for name, values in TRAITS.items()}
    assert ContainerProvisioner(**stanza).settings() == Settings(
        image="kernel:1",
        engine="docker",
        engine_url="unix:///x",
        allow_plaintext=True,
        profile="dev",
        transport="tcp",
        network="bridge",
        workspace="rw",
        workspace_named=True,
        read_only=False,
        user="1000:100",
        allow_root=True,
        limits=Limits(memory=512 * 1024**2, cpus=1.5, pids=64, shm_size=1024**3),
        gpus="all",
        runtime="runsc",
        mounts=(
            Mount(source="/a", target="/b"),
            Mount(source="/c d", target="/e", read_only=False),
        ),
        env={"A": "1,2", "B": ""},
        env_passthrough=("A", "B_*"),
        restart_mode="recreate",
        warm_pool_size=2,
        on_server_exit="keep",
        max_idle=3600.0,
        pull_policy="never",
        pull_timeout=5.0,
        start_timeout=0.5,
        extra_create_options={"HostConfig": {"Ulimits": [{"Name": "nofile"}]}},
    )


def test_an_engine_on_another_host_changes_what_is_chosen() -> None:
    """Where paths are not shared, nothing of this host's is mounted and no socket."""
    provisioner = ContainerProvisioner(image="kernel:1")
    here = provisioner.settings("unix:///x")
    there = provisioner.settings("tcp://10.0.0.2:2376?tls=/c")
    assert (here.transport, here.network, here.topology.address) == ("ipc", "none", "")
    assert (there.transport, there.network, there.topology.address) == (
        *("tcp", "internal"),
        "10.0.0.2",
    )
    named = ContainerProvisioner(image="kernel:1", engine_host="jump.example")
    assert named.settings("ssh://me@10.0.0.2").topology.address == "jump.example"
    assert named.settings("unix:///x").topology == here.topology
