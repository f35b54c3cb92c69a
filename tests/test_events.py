"""A front end of a real Jupyter Server is told what its kernels do, by the server's event bus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
import websocket
from jsonschema import ValidationError
from jupyter_events import EventLogger

from container_provisioner.host_environment import empty_image, find_program, host_mounts
from container_provisioner.labels import container_name
from container_provisioner.pulling import PullTotals
from container_provisioner.server.events import SCHEMA, SCHEMA_ID, KernelEvents, event
from container_provisioner.stages import Report, Reporter, observe, stop_observing

from .conftest import IPYKERNEL, WriteKernelspec, own_jupyter, shared_folder, write_kernelspec
from .ends import until
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .registry import Registry, noise
from .server_process import SILENCE, TIMEOUT, TOKEN, Server, jupyter_server
from .successor import Successor, successor_fixture  # noqa: F401 - a fixture
from .test_deaths import ALLOCATE


@dataclass
class Subscriber:
    """A websocket of ``/api/events/subscribe``."""

    socket: websocket.WebSocket

    def until(self, stage: str, kernel_id: str) -> list[dict[str, Any]]:
        """The kernel's events up to the next of that stage."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + TIMEOUT
        while not (found and found[-1]["stage"] == stage):
            assert time.monotonic() < deadline, found
            received = json.loads(self.socket.recv())
            if received.pop("schema_id") == SCHEMA_ID and kernel_id in ("", received["kernel_id"]):
                found.append(received)
        return found


def subscribe(server: Server, token: str = TOKEN) -> websocket.WebSocket:
    return websocket.create_connection(
        f"{server.url.replace('http', 'ws', 1)}api/events/subscribe",
        header=[f"Authorization: token {token}"],
        timeout=SILENCE,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "small", memory_limit="128m")
        with jupyter_server(runtime, folder, "--KernelRestarter.time_to_dead=0.5") as server:
            yield server


@pytest.fixture
def events(server: Server) -> Iterator[Subscriber]:
    socket = subscribe(server)
    yield Subscriber(socket)
    socket.close()


def stages(events: list[dict[str, Any]]) -> list[str]:
    return [each["stage"] for each in events]


@pytest.mark.docker
def test_the_life_of_a_kernel(
    server: Server, events: Subscriber, docker_client: docker.DockerClient
):
    """F12, F29: started, killed from outside, restarted, out of memory, restarted, deleted."""
    kernel_id = server.start("small", path="")
    container = docker_client.containers.get(container_name(kernel_id))
    creating, starting, ready = events.until("ready", kernel_id)
    assert {**creating, "seconds": 0} == {
        "stage": "creating",
        "kernel_id": kernel_id,
        "kernel_name": "small",
        "image": "host environment",
        "start": "cold",
        "seconds": 0,
    }
    assert stages([starting, ready]) == ["starting", "ready"]
    assert starting["container_id"] == ready["container_id"] == container.id
    assert 0 < ready["seconds"] < TIMEOUT

    container.kill()
    (exited,) = events.until("exited", kernel_id)
    assert exited == {
        **ready,
        "stage": "exited",
        "seconds": exited["seconds"],
        "cause": "signal",
        "exit_code": 137,
        "reason": "it was ended by SIGKILL from outside or by itself (exit code 137)",
    }
    restarted = events.until("ready", kernel_id)[-1]

    with server.channels(kernel_id) as channels:
        channels.execute(ALLOCATE)
        oom, exited = events.until("exited", kernel_id)
    assert (oom["stage"], oom["container_id"]) == ("oom", restarted["container_id"])
    assert "memory ran out (memory_limit is 128 MiB)" in oom["reason"]
    assert {name: exited[name] for name in ("cause", "exit_code", "reason")} == {
        "cause": "memory",
        "exit_code": 137,
        "reason": "it ran out of memory (memory_limit is 128 MiB)",
    }
    events.until("ready", kernel_id)

    server.clear_away(kernel_id)
    (exited,) = events.until("exited", kernel_id)
    assert exited["cause"] == "requested"


@pytest.mark.docker
def test_a_kernel_whose_image_has_to_be_pulled(
    server: Server, events: Subscriber, registry: Registry
):
    """F27: a front end sees how far it is, while the request still waits."""
    registry.rate = 400_000
    image = registry.add(empty_image()[1], noise(800_000), config={"User": "1000"})
    mounts = [
        f"{mount.source}:{mount.target}" for mount in host_mounts(find_program(sys.executable))
    ]
    # By way of env: an interpreter that is this one's path would become the image's own.
    argv = ["env", sys.executable, *IPYKERNEL[1:]]
    write_kernelspec(server.address.parent, "pulled", argv=argv, image=image, mounts=mounts)
    kernel_id = server.start("pulled", path="")
    *pulling, creating, starting, ready = events.until("ready", kernel_id)
    assert stages([creating, starting, ready]) == ["creating", "starting", "ready"]
    assert set(stages(pulling)) == {"pulling"}
    assert 2 <= len(pulling) < 10
    assert {each["image"] for each in pulling} == {image}
    assert pulling[0]["pull"] == {"layers": 0, "layers_done": 0, "current": 0, "total": 0}
    assert pulling[-1]["pull"]["layers"] == 2
    assert any(0 < each["pull"]["current"] < each["pull"]["total"] for each in pulling)
    assert server.lines(f"Pulled image {image} in ")
    server.clear_away(kernel_id)


@pytest.mark.docker
def test_a_kernel_that_cannot_start(server: Server, events: Subscriber):
    write_kernelspec(server.address.parent, "none", image="no-such/image:1", pull_policy="never")
    assert server.call("POST", "kernels", name="none").status_code == 500
    (failed,) = events.until("failed", "")
    assert (failed["error"], failed["image"]) == ("ImageMissing", "no-such/image:1")


@pytest.mark.docker
async def test_a_kernel_that_is_taken_over(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    successor: Successor,
):
    """F4: a server's own front ends come too late to see it; observers in its process do not."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    owner.die()
    told: list[Report] = []
    observe(told.append)
    try:
        await successor.adopt(owner.kernel_id)
        assert [(each.stage, each.start) for each in told] == [("ready", "adopted")]
        owner.container.kill()
        await until(lambda: len(told) > 1)
    finally:
        stop_observing(told.append)
    exited = told[1]
    assert (exited.stage, exited.cause, exited.container_id) == (
        *("exited", "signal"),
        told[0].container_id,
    )


@pytest.mark.docker
def test_events_are_for_who_may_have_them(server: Server):
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        subscribe(server, token="another")


# -- without an engine -------------------------------------------------------------------------

FULL = Report(
    stage="pulling",
    kernel_id="k",
    kernel_name="n",
    image="i:1",
    container_id="c",
    start="in-place",
    seconds=1.23456,
    cause="memory",
    exit_code=0,
    error="E",
    reason="r",
    pull=PullTotals(layers=1),
    manager=object(),
)


@pytest.fixture
def bus() -> EventLogger:
    """jupyter_server's, with a listener: without one it does not look at what is emitted."""
    bus = EventLogger()
    bus.register_event_schema(SCHEMA)

    async def listen(logger: EventLogger, schema_id: str, data: dict[str, Any]) -> None:
        pass

    bus.add_listener(schema_id=SCHEMA_ID, listener=listen)
    return bus


async def test_every_field_of_a_report_is_in_the_schema(bus: EventLogger):
    data = event(FULL)
    assert data.keys() == {each.name for each in fields(Report)} - {"manager"}
    assert (data["seconds"], data["exit_code"]) == (1.235, 0)
    assert bus.emit(schema_id=SCHEMA_ID, data=data) is not None
    assert json.loads(json.dumps(data)) == data
    least = event(Report(stage="ready", kernel_id="k"))
    assert least == {"stage": "ready", "kernel_id": "k", "seconds": 0.0}
    assert bus.emit(schema_id=SCHEMA_ID, data=least) is not None


@pytest.mark.parametrize(
    "wrong", [{"stage": "gone"}, {"environment": {}}, {"seconds": -1}, {"pull": {}}]
)
async def test_the_schema_lets_nothing_else_through(bus: EventLogger, wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        bus.emit(schema_id=SCHEMA_ID, data={**event(FULL), **wrong})


class App(SimpleNamespace):
    """The parts of a ServerApp that are asked for."""


@contextlib.contextmanager
def kernel_events(kernels: object) -> Iterator[list[tuple[str, threading.Thread]]]:
    """What is emitted for a server with these kernels: kernel ids, and the emitting threads."""
    emitted: list[tuple[str, threading.Thread]] = []
    bus = EventLogger()
    loop = SimpleNamespace(asyncio_loop=asyncio.get_running_loop())
    events = KernelEvents(App(event_logger=bus, kernel_manager=kernels, io_loop=loop))

    def note(schema_id: str, data: dict[str, Any]) -> dict[str, Any]:
        emitted.append((data["kernel_id"], threading.current_thread()))
        return data

    async def listen(logger: EventLogger, schema_id: str, data: dict[str, Any]) -> None:
        pass

    bus.add_modifier(schema_id=SCHEMA_ID, modifier=note)
    bus.add_listener(schema_id=SCHEMA_ID, listener=listen)
    yield emitted
    events.close()


class Manager(SimpleNamespace):
    """A kernel's, with a parent."""


async def test_only_this_servers_kernels_and_from_its_loop(runtime_dir: Path):
    """Reports come from threads: the watcher's, one that pulls."""
    ours, others = object(), object()
    managers = {"ours": Manager(parent=ours), "theirs": Manager(parent=others), "nobodys": None}

    def report(names: dict[str, Any] = managers) -> None:
        for name, manager in names.items():
            Reporter(name, None, manager).tell("creating")  # type: ignore[arg-type]

    with kernel_events(ours) as emitted:
        await asyncio.to_thread(report)
        report()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert emitted == [("ours", threading.main_thread())] * 2
    report()
    await asyncio.sleep(0)
    assert len(emitted) == 2


async def test_a_loop_that_is_closed_is_no_error():
    """A kernel may end after its server's loop."""
    kernels = object()
    gone = asyncio.new_event_loop()
    gone.close()
    app = App(
        event_logger=EventLogger(),
        kernel_manager=kernels,
        io_loop=SimpleNamespace(asyncio_loop=gone),
    )
    events = KernelEvents(app)
    try:
        events._reported(Report(stage="exited", kernel_id="k", manager=Manager(parent=kernels)))
    finally:
        events.close()


async def test_a_bus_that_refuses_the_schema_costs_only_the_events(
    bus: EventLogger, caplog: pytest.LogCaptureFixture
):
    """As that of another version of jupyter_events; here it has one of that name already."""
    app = App(
        event_logger=bus,
        kernel_manager=object(),
        io_loop=SimpleNamespace(asyncio_loop=asyncio.get_running_loop()),
        log=logging.getLogger("jupyter"),
    )
    KernelEvents(app).close()
    assert "The stages of kernels are not on the event bus: " in caplog.text
