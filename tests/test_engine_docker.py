"""The engine's answers as values, and the engine that does not answer, or not to us."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.engine.answers import container_info, container_usage
from container_provisioner.engine.base import ContainerInfo, Usage
from container_provisioner.engine.docker_engine import DockerEngine
from container_provisioner.engine.find import open_engine
from container_provisioner.errors import EngineError, EngineMismatch, EngineNotFound
from container_provisioner.transports.network import container_address

from .docker_url import DOCKER_URL

# -- answers -----------------------------------------------------------------------------------

RUNNING = {"Status": "running", "ExitCode": 0, "OOMKilled": False, "Error": ""}


def body(settings: dict[str, Any] | None, **parts: Any) -> dict[str, Any]:
    """The parts of ``GET /containers/{id}/json`` that are read, as Docker 20.10 answers."""
    return {
        "Id": "3a2611add3c31779388959",
        "Name": "/jupyter-kernel-1",
        "State": RUNNING,
        "Config": {"Labels": {"a": "label"}, "Image": "an-image:1"},
        "Created": "2026-01-02T03:04:05.678901234Z",
        "NetworkSettings": settings,
        **parts,
    }


BRIDGE = {
    "IPAddress": "172.17.0.2",
    "Ports": {"28501/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32823"}], "8888/tcp": None},
    "Networks": {"bridge": {"IPAddress": "172.17.0.2", "IPAMConfig": None, "Aliases": None}},
}
# The top-level address is empty for every network but the default one.
USER_NETWORK = {"IPAddress": "", "Ports": {}, "Networks": {"lab": {"IPAddress": "172.18.0.2"}}}
TWO_NETWORKS = {
    "IPAddress": "",
    "Ports": {},
    "Networks": {"lab": {"IPAddress": "172.18.0.3"}, "other": {"IPAddress": "172.19.0.2"}},
}
HOST = {"IPAddress": "", "Ports": {}, "Networks": {"host": {"IPAddress": ""}}}
NONE = {"IPAddress": "", "Ports": {}, "Networks": {"none": {"IPAddress": ""}}}
NOT_STARTED = {"IPAddress": "", "Ports": {}, "Networks": {"lab": {"IPAddress": ""}}}
ROOTLESS = {"IPAddress": "", "Ports": None, "Networks": {"slirp4netns": None}}
ROOTLESS_OLDER = {"IPAddress": "", "Ports": {}, "Networks": None}


def test_an_inspection_as_a_value():
    exited = {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "Error": "some words"}
    assert container_info(body(BRIDGE, State=exited)) == ContainerInfo(
        id="3a2611add3c31779388959",
        name="jupyter-kernel-1",
        state="exited",
        labels={"a": "label"},
        image="an-image:1",
        created=1767323045,
        exit_code=137,
        oom_killed=True,
        error="some words",
        addresses={"bridge": "172.17.0.2"},
        published={28501: ("127.0.0.1", 32823)},
    )


@pytest.mark.parametrize(
    ("stats", "memory"),
    [
        ({"total_inactive_file": 30, "inactive_file": 7}, 70),
        ({"inactive_file": 25}, 75),
        ({}, 100),
        ({"inactive_file": 200}, 0),
    ],
    ids=["cgroup-v1", "cgroup-v2", "neither", "more-than-all"],
)
def test_usage_as_a_value(stats: dict[str, int], memory: int):
    answer = {
        "read": "1970-01-01T01:00:01.500000999+01:00",
        "memory_stats": {"usage": 100, "limit": 1000, "stats": stats},
        "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
        "pids_stats": {"current": 4},
    }
    assert container_usage(answer) == Usage(
        memory=memory, memory_limit=1000, cpu_seconds=2.5, pids=4, at=1.5
    )


def test_usage_of_a_container_that_has_ended():
    answer = {"read": "0001-01-01T00:00:00Z", "memory_stats": {}, "cpu_stats": {}, "pids_stats": {}}
    assert container_usage(answer) == Usage() == container_usage({})


@pytest.mark.parametrize(
    ("settings", "network", "address"),
    [
        (BRIDGE, "bridge", "172.17.0.2"),
        (USER_NETWORK, "lab", "172.18.0.2"),
        (TWO_NETWORKS, "lab", "172.18.0.3"),
        (TWO_NETWORKS, "other", "172.19.0.2"),
    ],
    ids=["bridge", "user network", "two networks", "two networks, the other"],
)
def test_the_address_is_that_in_the_network_that_was_asked_for(
    settings: dict[str, Any], network: str, address: str
):
    """F24"""
    assert container_address(container_info(body(settings)), network) == address


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        (BRIDGE, "it is in bridge"),
        (TWO_NETWORKS, "it is in lab, other"),
        (HOST, "it is in no network at all"),
        (NONE, "it is in no network at all"),
        (NOT_STARTED, "it is in no network at all"),
        (ROOTLESS, "it is in no network at all"),
        (ROOTLESS_OLDER, "it is in no network at all"),
        ({}, "it is in no network at all"),
        (None, "it is in no network at all"),
    ],
    ids=["bridge", "two", "host", "none", "not started", "rootless", "older", "empty", "absent"],
)
def test_a_network_without_an_address_is_named(settings: dict[str, Any] | None, there: str):
    """F24: an `EngineError` that says what there is, never an AttributeError or a KeyError."""
    info = container_info(body(settings, Config={"Labels": None}))
    with pytest.raises(EngineError, match=f"no address in network 'jupyter'; {there}"):
        container_address(info, "jupyter")


# -- versions ----------------------------------------------------------------------------------


@pytest.fixture
def newest_engine() -> Iterator[str]:
    """A socket where every call is answered as Docker 29 answers a client that is too old."""
    words = (
        "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade "
        "your client to a newer version"
    )

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = json.dumps({"message": words}).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

        def address_string(self) -> str:
            return "a unix socket"

    path = f"/tmp/cp-engine-{os.getpid()}.sock"
    server = socketserver.ThreadingUnixStreamServer(path, Refuses)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"unix://{path}"
    server.shutdown()
    server.server_close()
    Path(path).unlink()


async def test_an_api_version_below_the_engines_floor_is_named(
    newest_engine: str, monkeypatch: pytest.MonkeyPatch
):
    """F39: an engine that answers and refuses is not an engine that is absent."""
    monkeypatch.setenv("DOCKER_API_VERSION", "1.41")
    with pytest.raises(EngineMismatch, match=r"1\.44.*Unset DOCKER_API_VERSION"):
        await open_engine(url=newest_engine)


async def test_an_api_version_below_the_sdks_floor_is_named(monkeypatch: pytest.MonkeyPatch):
    """F39: refused before anything is connected."""
    monkeypatch.setenv("DOCKER_API_VERSION", "1.20")
    with pytest.raises(EngineMismatch, match=r"below 1\.\d+ .*let DOCKER_API_VERSION be unset"):
        await open_engine(url="unix:///no/such.sock")


@pytest.mark.docker
async def test_an_api_version_above_the_engines_is_named(monkeypatch: pytest.MonkeyPatch):
    """F39, on the engine that is here."""
    monkeypatch.setenv("DOCKER_API_VERSION", "1.999")
    engine = DockerEngine(DOCKER_URL)
    with pytest.raises(EngineMismatch, match=r"1\.999 is too new"):
        engine.info()
    engine.close()


# -- no engine ---------------------------------------------------------------------------------


async def test_every_place_that_was_tried_is_named(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))  # bound, and nobody listens
    environ = {
        "DOCKER_HOST": "unix:///no/such/docker.sock",
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "CONTAINER_HOST": f"unix://{tmp_path}/dead.sock",
    }
    with pytest.raises(EngineNotFound) as caught:
        await open_engine(environ=environ)
    assert (
        "Tried: unix:///no/such/docker.sock (no such file or directory); "
        f"unix://{tmp_path}/dead.sock (connection refused)." in str(caught.value)
    )
    del environ["CONTAINER_HOST"]
    with pytest.raises(EngineNotFound) as caught:
        await open_engine("podman", environ=environ)
    assert f"{tmp_path}/run/podman/podman.sock (no such file" in str(caught.value)
    assert "docker.sock (" not in str(caught.value)


# Everything is imported before the user changes: it may not be able to read this installation.
NOBODY_OPENS = """
import asyncio, os, sys
from container_provisioner.engine.find import open_engine
from container_provisioner.errors import EngineNotFound
import encodings.idna
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    asyncio.run(open_engine(url=sys.argv[1]))
except EngineNotFound as exc:
    print(exc)
"""


def test_a_socket_that_may_not_be_used_is_told_from_one_that_is_not_there():
    path = Path(f"/tmp/cp-forbidden-{os.getpid()}.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0)
        try:
            answer = subprocess.run(
                [sys.executable, "-c", NOBODY_OPENS, f"unix://{path}"],
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            path.unlink()
    assert f"Tried: unix://{path} (permission denied)" in answer.stdout, answer.stderr
