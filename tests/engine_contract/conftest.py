"""Every test here runs against each engine, so that the fake cannot flatter us."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from container_provisioner import labels
from container_provisioner.engine.base import ENDED, ContainerEngine, ContainerInfo
from container_provisioner.engine.docker_engine import DockerEngine
from container_provisioner.engine.podman import PodmanEngine
from container_provisioner.engine.podman_service import PodmanService
from container_provisioner.spec import ContainerSpec

from ..conftest import PLAIN_IMAGE
from ..docker_url import DOCKER_URL
from ..fake_engine import FakeEngine
from ..podman_engine import podman_service

SLEEP = ("sleep", "300")


@pytest.fixture(scope="session")
def podman() -> Iterator[PodmanService]:
    with podman_service() as service:
        yield service


def _engine(name: str, request: pytest.FixtureRequest) -> ContainerEngine:
    if name == "fake":
        return FakeEngine()
    if name == "docker":
        return DockerEngine(DOCKER_URL)
    service = request.getfixturevalue("podman")
    return PodmanEngine(service.url, service=service)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("podman", marks=pytest.mark.podman),
    ]
)
def engine(request: pytest.FixtureRequest) -> Iterator[ContainerEngine]:
    engine = _engine(request.param, request)
    if isinstance(engine, FakeEngine):
        engine.add_image(PLAIN_IMAGE)
    yield engine
    engine.close()


@pytest.fixture
def spec() -> ContainerSpec:
    """Of a container that sleeps, with a label that only this test has."""
    unique = uuid.uuid4().hex
    return ContainerSpec(
        name=f"contract-{unique}",
        image=PLAIN_IMAGE,
        argv=SLEEP,
        labels={labels.KERNEL_ID: unique},
        environment={"TINI_KILL_PROCESS_GROUP": "1"},
    )


Make = Callable[[ContainerSpec], str]


@pytest.fixture
def create(engine: ContainerEngine) -> Iterator[Make]:
    made: list[str] = []

    def make(spec: ContainerSpec) -> str:
        made.append(engine.create(spec))
        return made[-1]

    yield make
    for container in made:
        engine.remove(container)


@pytest.fixture
def run(engine: ContainerEngine, create: Make) -> Make:
    def make(spec: ContainerSpec) -> str:
        container = create(spec)
        engine.start(container)
        return container

    return make


def shell(spec: ContainerSpec, script: str, **fields: object) -> ContainerSpec:
    return replace(spec, argv=("sh", "-c", script), **fields)


def wait(condition: Callable[[], object], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def ended(engine: ContainerEngine, container: str) -> ContainerInfo:
    wait(lambda: engine.inspect(container).state in ENDED)
    return engine.inspect(container)


def pause(engine: ContainerEngine, container: str) -> None:
    if isinstance(engine, FakeEngine):
        engine.pause(container)
    else:
        engine._client.pause(container)  # type: ignore[attr-defined]


def remove_without_volumes(engine: ContainerEngine, container: str) -> None:
    """As somebody does who says ``docker rm -f``."""
    if isinstance(engine, FakeEngine):
        volumes = dict(engine.volumes)
        engine.remove(container)
        engine.volumes = volumes
    else:
        engine._client.remove_container(container, force=True)  # type: ignore[attr-defined]


def in_state(engine: ContainerEngine, create: Make, spec: ContainerSpec, state: str) -> str:
    """A container that is ``created``, ``running``, ``paused`` or ``exited``."""
    container = create(shell(spec, "exit 3") if state == "exited" else spec)
    if state != "created":
        engine.start(container)
    if state == "exited":
        ended(engine, container)
    if state == "paused":
        pause(engine, container)
    assert engine.inspect(container).state == state
    return container


def archive(name: str, content: bytes = b"content") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as members:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.uid, member.gid = len(content), 0o600, 4242, 4343
        members.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def downloaded(engine: ContainerEngine, container: str, path: str) -> tuple[int, int, int, bytes]:
    with tarfile.open(fileobj=io.BytesIO(engine.download(container, path))) as members:
        (member,) = members
        file = members.extractfile(member)
        assert file is not None
        return member.uid, member.gid, member.mode & 0o777, file.read()
