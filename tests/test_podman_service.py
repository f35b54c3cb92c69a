"""A Podman that nobody serves is served when it is called, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_provisioner.engine.base import ContainerEngine
from container_provisioner.engine.find import candidates
from container_provisioner.engine.podman import PodmanEngine
from container_provisioner.engine.podman_service import PodmanService
from container_provisioner.errors import EngineUnavailable
from container_provisioner.spec import ContainerSpec

from .conftest import PLAIN_IMAGE
from .podman_engine import podman_service

ENSURE = """
import pathlib, sys
from container_provisioner.engine.podman_service import PodmanService
PodmanService(pathlib.Path(sys.argv[1]), idle=2).ensure()
"""


@pytest.fixture
def service() -> Iterator[PodmanService]:
    with podman_service(idle=1) as service:
        yield service


@pytest.fixture
def engine(service: PodmanService) -> Iterator[ContainerEngine]:
    engine = PodmanEngine(service.url, service=service)
    yield engine
    engine.close()


def processes(service: PodmanService) -> list[int]:
    """Of those that serve that socket."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"service" in arguments and service.url.encode() in arguments:
            found.append(int(process.name))
    return found


def until_idle(service: PodmanService) -> None:
    deadline = time.monotonic() + 30
    while processes(service) or service.socket.exists():
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.05)


@pytest.mark.podman
def test_it_ends_when_idle_and_starts_when_called_and_containers_stay(
    service: PodmanService, engine: ContainerEngine
):
    """F18: no error reaches the caller, whatever the verb, create and start included."""
    spec = ContainerSpec(name=f"service-{os.getpid()}", image=PLAIN_IMAGE, argv=("sleep", "300"))
    assert processes(service) == []
    container = engine.create(spec)
    try:
        until_idle(service)
        assert list(service.folder.iterdir()) == []  # nothing is left of it
        engine.start(container)
        started = engine.inspect(container)
        until_idle(service)
        assert engine.inspect(container) == started  # it goes on, the same run
        until_idle(service)
        assert engine.signal(container, signal.SIGKILL)
    finally:
        engine.remove(container)


@pytest.mark.podman
def test_a_stream_keeps_it(service: PodmanService, engine: ContainerEngine):
    """Who follows a kernel's events is company: it does not end below the watcher."""
    stream = engine.events(int(time.time()))
    (before,) = processes(service)
    time.sleep(2.5)  # more than its idle time; nothing is there to be awaited
    assert processes(service) == [before]
    stream.close()
    until_idle(service)


@pytest.mark.podman
def test_a_killed_one_is_started_again(service: PodmanService, engine: ContainerEngine):
    """Its socket is still there, and refuses."""
    engine.info()
    for process in processes(service):
        os.kill(process, signal.SIGKILL)
    assert engine.info().name == "podman"
    assert len(processes(service)) == 1


@pytest.mark.podman
def test_many_processes_have_one(service: PodmanService):
    started = [
        subprocess.Popen([sys.executable, "-c", ENSURE, str(service.folder)]) for _ in range(6)
    ]
    assert [process.wait() for process in started] == [0] * 6
    assert len(processes(service)) == 1
    assert service.folder.stat().st_mode & 0o077 == 0


@pytest.mark.podman
def test_one_that_does_not_start_says_why(
    service: PodmanService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    wrong = tmp_path / "containers.conf"
    wrong.write_text("[engine]\nruntime = 3\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(wrong))
    with pytest.raises(EngineUnavailable, match=str(wrong)):
        PodmanEngine(service.url, service=service).info()
    assert list(service.folder.iterdir()) == []


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path):
    tmp_path.chmod(0o755)
    with pytest.raises(EngineUnavailable, match="not a private directory"):
        PodmanService(tmp_path).ensure()


def test_it_is_the_last_to_be_tried_and_never_instead_of_a_named_one(tmp_path: Path):
    program = tmp_path / "podman"
    program.touch(mode=0o755)
    installed = {"PATH": str(tmp_path)}

    def places(choice: str, **environ: str) -> list[str]:
        return [url for url, _ in candidates(choice, "", {**installed, **environ})]

    own = PodmanService().url
    assert places("auto")[-1] == places("podman")[-1] == own
    assert own not in places("docker")
    assert own not in places("auto", DOCKER_HOST="unix:///named.sock")
    assert own not in places("podman", CONTAINER_HOST="unix:///named.sock")
    assert own not in [url for url, _ in candidates("auto", "", {"PATH": "/nowhere"})]
