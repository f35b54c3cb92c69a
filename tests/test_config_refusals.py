"""A value that makes no sense is refused when it is read, by name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError
from traitlets.config import Config

from container_provisioner.errors import ConfigurationError
from container_provisioner.exits import format_size
from container_provisioner.provisioner import ContainerProvisioner
from container_provisioner.spec import Mount
from container_provisioner.trait_types import parse_mount, parse_size

NAN, INFINITE = float("nan"), float("inf")

REFUSED: dict[str, list[Any]] = {
    "image": [5, None],
    "engine": ["lxc", "Docker", "", None],
    "profile": ["x", "", "Sandbox", None],
    "transport": ["udp", ""],
    "workspace": ["x", "RW", True],
    "restart_mode": ["inplace", ""],
    "pull_policy": ["sometimes", ""],
    "user": ["root", "jovyan", "", "1000:", ":5", "-1", "+0", "1:2:3", "0x1", 1000, "1\n"],
    "allow_root": ["yes", "true", 2, None],
    "memory_limit": ["lots", "-1", "1e9", "2gg", "2 x", "g", ".5g", True, None, 1.5, -5],
    "shm_size": ["64 mb/s", "m"],
    "cpu_limit": [-1, "two", NAN, INFINITE, None],
    "pids_limit": [-1, 1.5, "many", None],
    "gpus": ["0", "-1", "any", "device=", "device=0;1", None, True],
    "mounts": ["/a", ["/a"], ["a:/b"], ["/a:b"], ["/a:/b:rx"], ["/a:/b:rw:z"], [""], [5]],
    "env": [{"A": 1}, ["A=1"], "A=1", {1: "a"}],
    "env_passthrough": [5, [5]],
    "pull_timeout": [0, -1, NAN, INFINITE, "soon"],
    "start_timeout": [0, -0.5, NAN, INFINITE, None],
    "extra_create_options": [["Ulimits"], "{}"],
}
CASES = [(name, value) for name, values in REFUSED.items() for value in values]
TOO_LARGE = ["2147483648", "4294967295", "4294967296", "1:4294967296"]  # -1 to the C library
CASES += [("user", value) for value in TOO_LARGE]

IN_VARIABLES: dict[str, list[str]] = {
    "profile": ["", "x"],
    "user": ["", "root", *TOO_LARGE],
    "allow_root": ["", "maybe"],
    "memory_limit": ["lots"],
    "cpu_limit": ["", "two", "nan", "inf", "-1"],
    "pids_limit": ["", "1.5"],
    "gpus": ["0"],
    "mounts": ["/a", "/a:/b,/c"],
    "env": ["", "{", "[]", '{"A": 1}', "A=1"],
    "extra_create_options": ["{'a': 1}", "5"],
    "start_timeout": ["", "0", "nan", "inf", "1m"],
}
VARIABLE_CASES = [(name, text) for name, texts in IN_VARIABLES.items() for text in texts]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_in_the_stanza(name: str, value: Any) -> None:
    with pytest.raises(TraitError, match=f"^{name}") as refusal:
        ContainerProvisioner(**{name: value})
    assert "trait" not in str(refusal.value)  # the person who sets it need not know traitlets


@pytest.mark.parametrize(("name", "value"), CASES)
def test_in_the_applications_config(name: str, value: Any) -> None:
    with pytest.raises(TraitError, match=name):
        ContainerProvisioner(config=Config({"ContainerProvisioner": {name: value}}))


@pytest.mark.parametrize(("name", "text"), VARIABLE_CASES)
def test_in_an_environment_variable(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"CONTAINER_PROVISIONER_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(TraitError, match=re.escape(f"Environment variable {variable}={text!r}: ")):
        ContainerProvisioner().settings()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("memory_limits", "no setting 'memory_limits'. Did you mean 'memory_limit'?"),
        ("mount", "no setting 'mount'. Did you mean 'mounts'?"),
        ("networks", "no setting 'networks'. Did you mean 'network'?"),
        ("zzz", "no setting 'zzz'."),
        ("privileged", "no setting 'privileged'."),
        ("reason", "no setting 'reason'."),
        ("has_process", "no setting 'has_process'."),
        ("connection_info", "no setting 'connection_info'."),
    ],
)
def test_an_unknown_setting(name: str, words: str) -> None:
    with pytest.raises(TraitError) as caught:
        ContainerProvisioner(**{name: "x"})
    assert str(caught.value).startswith("The kernelspec's stanza has " + words)


@pytest.mark.parametrize(
    ("stanza", "words"),
    [
        ({"transport": "tcp", "network": "none"}, "transport 'tcp' needs a network"),
        ({"network": "host"}, "network 'host'"),
        ({"extra_create_options": {"Image": "x"}}, "may not set Image"),
        (
            {"extra_create_options": {"HostConfig": {"Privileged": True, "CapAdd": ["ALL"]}}},
            "may not set HostConfig.CapAdd, HostConfig.Privileged",
        ),
        ({"extra_create_options": {"HostConfig": []}}, "HostConfig must be a mapping"),
    ],
)
def test_settings_that_contradict_each_other_or_the_sandbox(
    stanza: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ContainerProvisioner(**stanza).settings()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", None),
        ("0", None),
        ("1", 1),
        ("512m", 512 * 1024**2),
        ("2g", 2 * 1024**3),
        ("2G", 2 * 1024**3),
        ("2 GiB", 2 * 1024**3),
        ("2gb", 2 * 1024**3),
        ("1.5k", 1536),
        ("1t", 1024**4),
        ("100b", 100),
    ],
)
def test_size(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["x", "-1", "1..5", "1 2", "1\n2", "\u0665g"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(1, 999), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_a_size_reads_back_as_it_is_told(number: int, unit: str) -> None:
    size = parse_size(f"{number} {unit}")
    assert size is not None
    assert format_size(size) == f"{number} {unit}"


@pytest.mark.parametrize("value", [536870912, "536870912", " 512m "])
def test_a_size_may_be_a_number(value: Any) -> None:
    limits = ContainerProvisioner(memory_limit=value).settings().limits
    assert limits.memory == 536870912


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", Mount(source="/a", target="/b")),
        ("/a:/b:ro", Mount(source="/a", target="/b")),
        ("/a b:/c,d:rw", Mount(source="/a b", target="/c,d", read_only=False)),
        ("~/a:/b", Mount(source=f"{Path.home()}/a", target="/b")),
    ],
)
def test_mount(text: str, mount: Mount) -> None:
    assert parse_mount(text) == mount


def test_the_engines_socket_is_no_mount(tmp_path: Path) -> None:
    """Who has it can start a container that may do anything."""
    os.mkfifo(tmp_path / "docker.sock")
    (tmp_path / "harmless").symlink_to("docker.sock")
    for source in ("/var/run/docker.sock", "/x/podman.sock", tmp_path / "harmless"):
        with pytest.raises(TraitError, match="would hand the engine to the kernel"):
            parse_mount(f"{source}:/x")
