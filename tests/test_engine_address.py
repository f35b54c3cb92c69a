"""Where the engine is: found as docker's own command finds it, and said in one URL."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.engine.address import (
    check_url,
    from_environment,
    is_encrypted,
    split_tls,
    with_tls,
)
from container_provisioner.engine.find import candidates
from container_provisioner.errors import ConfigurationError

REMOTE = "tcp://10.0.0.2:2376"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With no docker configuration but what a test writes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def context(home: Path, name: str, host: str, *, tls: bool = False) -> Path:
    """What ``docker context create`` and ``docker context use`` write. The folder of its files."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    docker = home / ".docker"
    meta, certificates = docker / "contexts/meta" / digest, docker / "contexts/tls" / digest
    meta.mkdir(parents=True)
    endpoint: dict[str, Any] = {"Host": host, "SkipTLSVerify": False}
    body = {"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}
    (meta / "meta.json").write_text(json.dumps(body))
    (docker / "config.json").write_text(json.dumps({"currentContext": name}))
    if tls:
        write_certificates(certificates / "docker")
    return certificates / "docker"


def write_certificates(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (folder / name).write_text("")


def first(**environ: str) -> tuple[str, str]:
    return next(candidates("auto", "", environ))


def test_the_environment_comes_before_the_context(home: Path) -> None:
    context(home, "far", REMOTE)
    assert first(DOCKER_HOST="unix:///x") == ("unix:///x", "DOCKER_HOST")


def test_the_current_context_comes_before_the_usual_sockets(home: Path) -> None:
    folder = context(home, "far", REMOTE, tls=True)
    assert first() == (f"{REMOTE}?tls={folder}", "docker context far")
    check_url(first()[0])
    places = [url for url, _ in candidates("docker", "", {})]
    assert places == [f"{REMOTE}?tls={folder}"]  # and is the only one


def test_a_context_over_ssh(home: Path) -> None:
    context(home, "far", "ssh://me@far")
    assert first() == ("ssh://me@far", "docker context far")


def test_the_environment_names_another_context(home: Path) -> None:
    context(home, "near", "unix:///near")
    context(home, "far", REMOTE)
    assert first(DOCKER_CONTEXT="near") == ("unix:///near", "docker context near")
    assert first(DOCKER_CONTEXT="default")[0] == "unix:///var/run/docker.sock"


@pytest.mark.parametrize("how", ["absent", "torn"])
def test_a_context_that_is_not_there_is_one_error(home: Path, how: str) -> None:
    context(home, "far", REMOTE)
    meta = next(home.glob(".docker/contexts/meta/*/meta.json"))
    meta.write_text("{") if how == "torn" else meta.unlink()
    with pytest.raises(ConfigurationError, match="docker context 'far'"):
        first()


def test_usual_sockets(home: Path) -> None:
    colima = home / ".colima/default/docker.sock"
    colima.parent.mkdir(parents=True)
    colima.touch()
    environ = {"XDG_RUNTIME_DIR": "/run/user/1"}
    assert [url for url, _ in candidates("auto", "", environ)] == [
        "unix:///var/run/docker.sock",
        "unix:///run/user/1/docker.sock",
        f"unix://{colima}",
        "unix:///run/user/1/podman/podman.sock",
        "unix:///run/podman/podman.sock",
    ]


def test_tls_from_the_environment(home: Path) -> None:
    assert from_environment({"DOCKER_HOST": REMOTE}) == REMOTE
    named = {"DOCKER_HOST": REMOTE, "DOCKER_CERT_PATH": "/c d"}
    assert split_tls(from_environment(named)) == (REMOTE, "/c d")
    usual = {"DOCKER_HOST": REMOTE, "DOCKER_TLS_VERIFY": "1"}
    assert split_tls(from_environment(usual)) == (REMOTE, str(home / ".docker"))
    here = {"DOCKER_HOST": "unix:///x", "DOCKER_TLS_VERIFY": "1"}
    assert from_environment(here) == "unix:///x"


def test_a_folder_stands_in_the_url() -> None:
    assert split_tls(with_tls(REMOTE, "/a b/ä?&c")) == (REMOTE, "/a b/ä?&c")
    assert split_tls(REMOTE) == (REMOTE, "")


@pytest.mark.parametrize(
    "url", ["", "x", "tcp://", "unix://", "http://10.0.0.2", "10.0.0.2:2376", "npipe:////./pipe/d"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no address of an engine"):
        check_url(url)


def test_a_folder_without_certificates_is_refused(home: Path) -> None:
    write_certificates(home)
    check_url(with_tls(REMOTE, str(home)))
    (home / "key.pem").unlink()
    with pytest.raises(ConfigurationError, match=r"holds no key.pem"):
        check_url(with_tls(REMOTE, str(home)))


@pytest.mark.parametrize(
    ("url", "encrypted"),
    [
        ("unix:///x", True),
        ("ssh://far", True),
        (f"{REMOTE}?tls=/c", True),
        (REMOTE, False),
        ("tcp://engine:2375", False),
        ("tcp://127.0.0.1:2375", True),
        ("tcp://localhost:2375", True),
    ],
)
def test_who_could_read_on_the_way(url: str, encrypted: bool) -> None:
    assert is_encrypted(url) is encrypted
