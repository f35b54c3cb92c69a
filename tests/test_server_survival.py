"""A Jupyter Server is killed or stopped, and the next one has its kernels."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from container_provisioner import labels

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .ends import left_below
from .server_process import Channels, Server, eventually, jupyter_server

pytestmark = pytest.mark.docker

COUNT = """
import time
try:
    for n in range(12):
        print(n, flush=True)
        time.sleep(0.25)
    while True:
        time.sleep(0.1)
except KeyboardInterrupt:
    print("interrupted")
"""


class Place:
    """A runtime directory, and the servers that run on it beside or after each other."""

    def __init__(self, runtime: Path, folder: Path, stack: ExitStack) -> None:
        self.runtime, self.folder, self._stack = runtime, folder, stack

    def serve(self, *options: str, root: Path | None = None) -> Server:
        options = ("--KernelRestarter.time_to_dead=0.5", *options)
        return self._stack.enter_context(
            jupyter_server(self.runtime, root or self.folder, *options)
        )


@pytest.fixture
def place() -> Iterator[Place]:
    with own_jupyter() as runtime, shared_folder() as folder, ExitStack() as stack:
        write_kernelspec(runtime, "keep", on_server_exit="keep")
        write_kernelspec(runtime, "tcp", on_server_exit="keep", profile="dev", transport="tcp")
        write_kernelspec(runtime, "stop")
        yield Place(runtime, folder, stack)


FindContainer = Callable[[str], "docker.models.containers.Container | None"]


@pytest.fixture
def container_of(docker_client: docker.DockerClient) -> FindContainer:
    def find(kernel_id: str) -> docker.models.containers.Container | None:
        found = docker_client.containers.list(
            all=True,
            filters={"label": f"{labels.KERNEL_ID}={kernel_id}"},
            ignore_removed=True,
        )
        assert len(found) <= 1
        return found[0] if found else None

    return find


def printed(channels: Channels, request: str) -> str:
    """What the request has printed, of all that was received."""
    return "".join(
        message["content"]["text"]
        for message in channels.seen
        if message["header"]["msg_type"] == "stream"
        and message["parent_header"].get("msg_id") == request
    )


def kill(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def stop(server: Server) -> None:
    assert server.stop() == 0


def ids(server: Server) -> list[str]:
    return [model["id"] for model in server.call("GET", "kernels").json()]


@pytest.mark.parametrize(("end", "name"), [(kill, "keep"), (kill, "tcp"), (stop, "tcp")])
def test_kernels_of_a_server_are_the_next_ones(
    place: Place, name: str, end: Callable[[Server], None], container_of: FindContainer
) -> None:
    """F4, F30: a cell that prints, a page that is open."""
    first = place.serve()
    kernel_id = first.start(name, path="")
    container = container_of(kernel_id)
    with first.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
        request = channels.execute(COUNT)
        channels.until("stream", request)
        end(first)
        # What it sent before its end is in the socket; the rest is the next one's to send.
        before = "".join(rest(channels, request))
        page = channels.session

    second = place.serve()
    assert ids(second) == [kernel_id]
    assert second.model(kernel_id)["execution_state"] == "busy"
    with second.channels(kernel_id, page=page) as channels:
        while not printed(channels, request).endswith("11\n"):
            channels.until("stream", request)
        assert before + printed(channels, request) == "".join(f"{n}\n" for n in range(12))
        assert second.call("POST", f"kernels/{kernel_id}/interrupt").status_code == 204
        assert channels.until("stream", request)["text"] == "interrupted\n"
        assert channels.until("execute_reply", request)["status"] == "ok"
        assert channels.run("print(x)") == "1\n"
        assert second.call("POST", f"kernels/{kernel_id}/restart").status_code == 200
    with second.channels(kernel_id) as channels:
        assert channels.run("x").startswith("NameError")
    assert container_of(kernel_id) == container
    assert second.delete(kernel_id) == 204
    assert container_of(kernel_id) is None
    assert [path.name for path in left_below(place.runtime) if "kernel" in path.name] == []


def rest(channels: Channels, request: str) -> Iterator[str]:
    """What the request printed, until the server closes the websocket or is gone."""
    try:
        while True:
            channels.receive()
    except Exception:  # noqa: BLE001 - whatever a websocket does whose server dies
        yield printed(channels, request)


@pytest.mark.parametrize("end", [kill, stop])
def test_kernels_that_are_not_to_be_kept_end_with_their_server(
    place: Place, end: Callable[[Server], None], container_of: FindContainer
) -> None:
    """Within ten seconds, and the next server knows nothing of them."""
    first = place.serve()
    kernel_id = first.start("stop", path="")
    end(first)
    eventually(lambda: container_of(kernel_id) is None, "the container to be removed", timeout=10)
    second = place.serve()
    assert ids(second) == []
    kernels = [path for path in left_below(place.runtime) if path.name.startswith(("kernel", "0"))]
    assert kernels == []


def test_the_whole_process_group_of_a_server_is_killed(
    place: Place, container_of: FindContainer
) -> None:
    """The guard is in a session of its own."""
    server = place.serve()
    kernel_id = server.start("stop", path="")
    assert os.getpgid(server.process.pid) == os.getpgid(0), "this test would kill itself"
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    for pid in [*map(int, children.read_text().split()), server.process.pid]:
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    eventually(lambda: container_of(kernel_id) is None, "the container to be removed", timeout=10)


def test_two_servers_side_by_side(place: Place, container_of: FindContainer) -> None:
    """Neither touches the other's kernels, dead or alive."""
    with shared_folder() as other_folder:
        first, other = place.serve(), place.serve(root=other_folder)
        mine = [first.start(name, path="") for name in ("keep", "stop")]
        its = [other.start(name, path="") for name in ("keep", "stop")]
        kill(first)
        eventually(lambda: container_of(mine[1]) is None, "the container to be removed", timeout=10)
        assert sorted(ids(other)) == sorted(its)
        second = place.serve()
        assert ids(second) == mine[:1]
        kill(other)
        eventually(lambda: container_of(its[1]) is None, "the container to be removed", timeout=10)
        third = place.serve()  # with the first one's root: its kernels are the second one's
        assert ids(third) == []
        heir = place.serve(root=other_folder)
        assert ids(heir) == its[:1]
        assert ids(second) == mine[:1]
        for server, kernel_id in ((second, mine[0]), (heir, its[0])):
            with server.channels(kernel_id) as channels:
                assert channels.run("print(6 * 7)") == "42\n"
            assert server.delete(kernel_id) == 204


def test_sessions_survive(place: Place) -> None:
    first = place.serve()
    model = {"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"name": "keep"}}
    session = first.call("POST", "sessions", **model).json()
    kill(first)
    second = place.serve()
    (found,) = second.call("GET", "sessions").json()
    names = ("id", "path", "type", "name")
    assert [found[name] for name in names] == [session[name] for name in names]
    assert found["kernel"]["id"] == session["kernel"]["id"]
    assert found["kernel"]["execution_state"] == "idle"
    assert second.call("DELETE", f"sessions/{session['id']}").status_code == 204
    assert ids(second) == []


def test_a_restart_later_gives_the_session_its_environment_again(place: Place) -> None:
    first = place.serve()
    model = {"path": "a.ipynb", "type": "notebook", "name": "a", "kernel": {"name": "keep"}}
    kernel_id = first.call("POST", "sessions", **model).json()["kernel"]["id"]
    where = "import os; print(os.getcwd(), os.environ['JPY_SESSION_NAME'])"
    with first.channels(kernel_id) as channels:
        before = channels.run(where)
    kill(first)
    second = place.serve()
    assert second.call("POST", f"kernels/{kernel_id}/restart").status_code == 200
    with second.channels(kernel_id) as channels:
        assert channels.run(where) == before
    assert second.delete(kernel_id) == 204


def test_pending_kernels_are_adopted_too(place: Place) -> None:
    option = "--MappingKernelManager.use_pending_kernels=True"
    first = place.serve(option)
    kernel_id = first.start("keep", path="")
    with first.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
    stop(first)
    second = place.serve(option)
    assert second.model(kernel_id)["execution_state"] == "idle"
    with second.channels(kernel_id) as channels:
        assert channels.run("print(x)") == "1\n"
    assert second.delete(kernel_id) == 204


def test_a_kernel_that_was_idle_all_the_time_is_culled(
    place: Place, container_of: FindContainer
) -> None:
    """Its idle time began under the first server."""
    first = place.serve()
    kernel_id = first.start("keep", path="")
    with first.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
    before = first.model(kernel_id)["last_activity"]
    kill(first)
    second = place.serve(
        "--MappingKernelManager.cull_idle_timeout=3", "--MappingKernelManager.cull_interval=1"
    )
    assert second.model(kernel_id)["last_activity"][:18] == before[:18]
    eventually(lambda: ids(second) == [], "the kernel to be culled")
    eventually(lambda: container_of(kernel_id) is None, "the container to be removed")
