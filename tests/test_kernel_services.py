"""jupyter_server's kernel services, with kernels in containers and the server's own defaults.

Rows of docs/tested-with.md; what starts, restarts, dies and survives is in other files.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest
from jupyter_client.session import Session

from container_provisioner import labels

from . import server_process
from .conftest import own_jupyter, shared_folder, write_kernelspec
from .server_process import Channels, Server, eventually, jupyter_server
from .test_events import subscribe

pytestmark = pytest.mark.docker

ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"

MANY = 30

# Goes on when nobody listens: the notebook's folder is what both can see.
WHEN_TOLD = """
import os, time
while not os.path.exists("go"):
    time.sleep(0.01)
print("late")
"""

# Faster than a page opens, slower than what jupyter_server holds back.
COUNT_IN_A_THREAD = """
import sys, threading, time

def count():
    for number in range(10_000):
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        time.sleep(0.002)

threading.Thread(target=count, daemon=True).start()
"""

Start = Callable[..., str]
PortsOf = Callable[[str], list[str]]


def culled_after(seconds: int) -> dict[str, object]:
    """A kernelspec's own timeout; the server's is an hour."""
    stanza = {"provisioner_name": "container-provisioner"}
    return {"metadata": {"kernel_provisioner": stanza, "cull_idle_timeout": seconds}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        write_kernelspec(runtime, "tcp", profile="dev", transport="tcp")
        write_kernelspec(runtime, "none", image="no-such/image:1", pull_policy="never")
        write_kernelspec(runtime, "culled", spec=culled_after(3))
        culling = ("cull_interval=1", "cull_idle_timeout=3600")
        options = [f"--MappingKernelManager.{option}" for option in culling]
        options.append("--ServerApp.log_level=DEBUG")
        with jupyter_server(runtime, folder, *options) as server:
            yield server


@pytest.fixture
def start(server: Server) -> Iterator[Start]:
    with server.starting() as start:
        yield start
    (server.root / "go").unlink(missing_ok=True)


@pytest.fixture
def ports_of(docker_client: docker.DockerClient) -> PortsOf:
    """Where a kernel's channels are published on this host."""

    def ports(kernel_id: str) -> list[str]:
        (container,) = docker_client.containers.list(
            filters={"label": f"{labels.KERNEL_ID}={kernel_id}"}
        )
        return sorted(bound[0]["HostPort"] for bound in container.ports.values() if bound)

    return ports


def printed(channels: Channels) -> str:
    return "".join(
        message["content"]["text"]
        for message in channels.seen
        if message["header"]["msg_type"] == "stream"
    )


def leave(server: Server, kernel_id: str, channels: Channels) -> None:
    """As a page that is closed; the server has noticed."""
    channels.socket.close()
    eventually(lambda: server.model(kernel_id)["connections"] == 0, "the page to be gone")


@contextlib.contextmanager
def come_back_when_it_has_ended(server: Server, kernel_id: str) -> Iterator[tuple[str, Channels]]:
    """A page asked for a cell, was closed, and is open again when that has printed and ended."""
    with server.channels(kernel_id) as page:
        request = page.execute(WHEN_TOLD)
        page.until("status", request, execution_state="busy")
        leave(server, kernel_id, page)
    (server.root / "go").touch()
    eventually(lambda: server.model(kernel_id)["execution_state"] == "idle", "the cell to end")
    with server.channels(kernel_id, page=page.session) as again:
        yield request, again


@pytest.mark.parametrize("name", ["ipc", "tcp"])
def test_a_page_opens_without_nudging_a_kernel_that_listens(
    server: Server, start: Start, docker_client: docker.DockerClient, name: str
):
    """One that does not answer at once is nudged as any other."""
    kernel_id = start(name)
    for _ in range(2):
        with server.channels(kernel_id) as page:
            assert page.run("print(1)") == "1\n"
    assert not server.lines("Nudge: attempt", kernel_id)
    (container,) = docker_client.containers.list(
        filters={"label": f"{labels.KERNEL_ID}={kernel_id}"}
    )
    container.pause()
    with server.channels(kernel_id) as page:
        eventually(lambda: server.lines("Nudge: attempt", kernel_id), "it to be nudged")
        container.unpause()
        assert page.run("print(2)") == "2\n"
    # What it was asked meanwhile are questions of their own: it refuses one that it had.
    assert b"Duplicate Signature" not in container.logs()


def test_what_a_thread_prints_while_a_page_opens_reaches_the_page(server: Server, start: Start):
    """With the latest request for its parent, which is the page's own question then."""
    kernel_id, page = start("ipc"), Session(session=uuid.uuid4().hex)
    for attempt in range(4):
        with server.channels(kernel_id, page=page) as channels:
            if attempt == 0:
                channels.execute(COUNT_IN_A_THREAD)
            numbers: list[int] = []  # a page that closes may lose what is on its way to it
            while len(numbers) < 100:
                message = channels.receive()
                if message["header"]["msg_type"] == "stream":
                    numbers += map(int, message["content"]["text"].split())
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            leave(server, kernel_id, channels)


def test_only_a_kernel_that_is_idle_and_has_no_page_is_culled(server: Server, start: Start):
    connected = start("culled")
    with server.channels(connected) as page:
        busy = start("culled")
        with server.channels(busy) as other:
            request = other.execute("import time; time.sleep(3600)")
            other.until("status", request, execution_state="busy")
            leave(server, busy, other)
        idle = start("culled")  # the others' last activity is earlier
        eventually(lambda: server.call("GET", f"kernels/{idle}").status_code == 404, "culling")
        assert server.model(connected)["execution_state"] == "idle"
        assert server.model(busy)["execution_state"] == "busy"
        assert page.run("print(1)") == "1\n"


@pytest.mark.parametrize("name", ["ipc", "tcp"])
def test_a_page_that_comes_back_has_what_it_missed(server: Server, start: Start, name: str):
    kernel_id = start(name)
    with come_back_when_it_has_ended(server, kernel_id) as (request, again):
        assert again.until("stream", request) == {"name": "stdout", "text": "late\n"}
        assert again.until("execute_reply", request)["status"] == "ok"
        assert again.run("print(1)") == "1\n"


@pytest.mark.parametrize("name", ["ipc", "tcp"])
def test_a_page_that_comes_back_after_a_restart(
    server: Server, start: Start, ports_of: PortsOf, name: str
):
    """`ports_changed`: over tcp what was buffered came over channels that are no more."""
    kernel_id = start(name)
    (server.root / "go").touch()
    with server.channels(kernel_id) as page:
        assert page.run("x = 1") == ""
        leave(server, kernel_id, page)
    before = ports_of(kernel_id)
    assert server.call("POST", f"kernels/{kernel_id}/restart").status_code == 200
    assert (ports_of(kernel_id) != before) == (name == "tcp")
    with server.channels(kernel_id, page=page.session) as again:
        assert again.run("x").startswith("NameError")
        assert again.run(WHEN_TOLD) == "late\n"


def test_actions_are_on_the_event_bus(server: Server):
    events = subscribe(server)

    def action() -> dict[str, str]:
        while (event := json.loads(events.recv())).pop("schema_id") != ACTIONS:
            pass
        return dict(event)

    kernel_id = server.start("ipc")
    assert server.call("POST", f"kernels/{kernel_id}/interrupt").status_code == 204
    assert server.call("POST", f"kernels/{kernel_id}/restart").status_code == 200
    assert server.delete(kernel_id) == 204
    assert server.call("POST", "kernels", name="none").status_code == 500
    for expected in ("start", "interrupt", "restart", "shutdown"):
        event = action()
        assert (event["action"], event["status"]) == (expected, "success")
        assert (event["kernel_id"], event["kernel_name"]) == (kernel_id, "ipc")
    failed = action()
    assert (failed["action"], failed["status"]) == ("start", "error")
    assert "Image 'no-such/image:1' is not present on the engine" in failed["msg"]
    events.close()


def test_a_kernel_has_the_id_that_was_asked_for(server: Server, start: Start):
    kernel_id = str(uuid.uuid4())
    assert start("ipc", kernel_id=kernel_id) == kernel_id
    with server.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
    assert server.start("ipc", kernel_id=kernel_id) == kernel_id  # it has that already
    with server.channels(kernel_id) as channels:
        assert channels.run("print(x)") == "1\n"


def test_thirty_kernels_at_once(
    server: Server, docker_client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
):
    """Started, used, listed and deleted together; no kernel has another's messages."""
    # The last one waits for all the others, on a machine that may have two cores.
    monkeypatch.setattr(server_process, "TIMEOUT", 120.0)
    monkeypatch.setattr(server_process, "SILENCE", 120.0)

    def use(number: int) -> tuple[str, str]:
        kernel_id = server.start("tcp" if number % 3 == 0 else "ipc")
        with server.channels(kernel_id) as channels:
            return kernel_id, channels.run(f"print({number})")

    with ThreadPoolExecutor(MANY) as at_once:
        used = list(at_once.map(use, range(MANY)))
        assert [said for _, said in used] == [f"{number}\n" for number in range(MANY)]
        kernel_ids = {kernel_id for kernel_id, _ in used}
        assert len(kernel_ids) == MANY
        assert {model["id"] for model in server.call("GET", "kernels").json()} == kernel_ids
        assert list(at_once.map(server.delete, kernel_ids)) == [204] * MANY
    assert server.call("GET", "kernels").json() == []
    left = docker_client.containers.list(all=True, ignore_removed=True)
    assert not kernel_ids & {container.labels.get(labels.KERNEL_ID) for container in left}
