"""A kernel in a container under a real Jupyter Server, over REST and the websocket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest

from container_provisioner import labels

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .ends import left_below
from .server_process import LEGACY, V1, Server, eventually, jupyter_server

pytestmark = pytest.mark.docker

SECRET = "not-for-kernels"

# Starts late enough for a second request to come in between.
SLOW = (
    "import runpy, time; time.sleep(1.5);"
    "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
)
FOR_EVER = "while True: pass"

Start = Callable[..., str]
ContainersOf = Callable[[str], list[str]]


def culled_when_idle_for_a_second() -> dict[str, object]:
    stanza = {"provisioner_name": "container-provisioner"}
    return {"metadata": {"kernel_provisioner": stanza, "cull_idle_timeout": 1}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_jupyter() as runtime, shared_folder() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "data.csv").write_text("1,2")
        (folder / "own.txt").write_text("not mounted into a kernel of sub")
        write_kernelspec(runtime, "ipc")
        write_kernelspec(runtime, "tcp", profile="dev", transport="tcp")
        slow = ["python", "-c", SLOW, "-f", "{connection_file}"]
        write_kernelspec(runtime, "slow-ipc", argv=slow)
        write_kernelspec(runtime, "slow-tcp", argv=slow, profile="dev", transport="tcp")
        write_kernelspec(runtime, "culled", spec=culled_when_idle_for_a_second())
        culling = ("cull_interval=1", "cull_idle_timeout=3600")
        options = [f"--MappingKernelManager.{option}" for option in culling]
        with jupyter_server(runtime, folder, *options, SECRET=SECRET) as server:
            yield server


@pytest.fixture
def start(server: Server) -> Iterator[Start]:
    """Start a kernel; at the end of the test it is deleted, if it has not been."""
    with server.starting() as start:
        yield start


@pytest.fixture
def containers_of(docker_client: docker.DockerClient) -> ContainersOf:
    """The states of a kernel's containers, of which there may be one."""

    def states(kernel_id: str) -> list[str]:
        found = docker_client.containers.list(
            all=True,
            filters={"label": f"{labels.KERNEL_ID}={kernel_id}"},
            ignore_removed=True,
        )
        return [str(container.status) for container in found]

    return states


@pytest.mark.parametrize("subprotocol", [V1, LEGACY], ids=["v1", "legacy"])
def test_a_cell_runs_in_the_notebooks_folder(server: Server, start: Start, subprotocol: str):
    with server.channels(start("ipc", path="sub/notebook.ipynb"), subprotocol) as channels:
        assert channels.subprotocol == subprotocol
        code = "import os, platform; print(platform.node(), os.getcwd(), os.listdir())"
        assert channels.run(code) == f"kernel {server.root}/sub ['data.csv']\n"


def test_the_servers_environment_stays_with_the_server(
    server: Server, start: Start, docker_client: docker.DockerClient
):
    """F9: nor does the engine get to know it."""
    kernel_id = start("ipc")
    with server.channels(kernel_id) as channels:
        assert SECRET not in channels.run("import os; print(dict(os.environ))")
    (container,) = docker_client.containers.list(
        filters={"label": f"{labels.KERNEL_ID}={kernel_id}"}
    )
    assert SECRET not in str(container.attrs)


@pytest.mark.parametrize("name", ["ipc", "tcp"])
def test_interrupt(server: Server, start: Start, name: str):
    kernel_id = start(name)
    with server.channels(kernel_id) as channels:
        request = channels.execute(FOR_EVER)
        channels.until("status", request, execution_state="busy")
        assert server.call("POST", f"kernels/{kernel_id}/interrupt").status_code == 204
        assert channels.until("execute_reply", request)["ename"] == "KeyboardInterrupt"
        assert channels.run("print(1)") == "1\n"


@pytest.mark.parametrize("name", ["ipc", "tcp"])
def test_restart_keeps_the_id_and_its_activity_is_followed(
    server: Server, start: Start, containers_of: ContainersOf, name: str
):
    """F22: over tcp the ports are others after a restart."""
    kernel_id = start(name)
    with server.channels(kernel_id) as channels:
        assert channels.run("x = 1; print(x)") == "1\n"
    before = server.model(kernel_id)["last_activity"]

    restarted = server.call("POST", f"kernels/{kernel_id}/restart")
    assert (restarted.status_code, restarted.json()["id"]) == (200, kernel_id)
    assert containers_of(kernel_id) == ["running"]
    with server.channels(kernel_id) as channels:  # as JupyterLab does
        assert channels.run("x").startswith("NameError")
        # The server's own subscription may come a moment later.
        eventually(
            lambda: channels.run("1") == "" and server.model(kernel_id)["last_activity"] > before,
            "last_activity to move",
        )
        channels.execute(FOR_EVER)
        eventually(lambda: server.model(kernel_id)["execution_state"] == "busy", "busy")
        server.call("POST", f"kernels/{kernel_id}/interrupt")
        eventually(lambda: server.model(kernel_id)["execution_state"] == "idle", "idle")


def test_a_cell_that_refuses_to_end_holds_up_neither_restart_nor_delete(
    server: Server, start: Start, containers_of: ContainersOf
):
    kernel_id = start("ipc")
    stubborn = "import time\nwhile True:\n try: time.sleep(60)\n except BaseException: pass"
    for method, resource, expected in (
        ("POST", f"kernels/{kernel_id}/restart", 200),
        ("DELETE", f"kernels/{kernel_id}", 204),
    ):
        with server.channels(kernel_id) as channels:
            request = channels.execute(stubborn)
            channels.until("status", request, execution_state="busy")
            assert server.call(method, resource).status_code == expected
    assert containers_of(kernel_id) == []


def test_delete_twice(server: Server, start: Start, containers_of: ContainersOf):
    kernel_id = start("ipc")
    with ThreadPoolExecutor() as at_once:
        assert list(at_once.map(server.delete, [kernel_id, kernel_id])) == [204, 204]
    assert server.delete(kernel_id) == 404
    assert containers_of(kernel_id) == []


@pytest.mark.parametrize("name", ["slow-ipc", "slow-tcp"])
def test_a_restart_during_a_restart_leaves_one_kernel_that_can_be_deleted(
    server: Server,
    start: Start,
    docker_client: docker.DockerClient,
    containers_of: ContainersOf,
    name: str,
):
    """jupyter_client lets both through; the second's reply may be an error, and is its own."""
    kernel_id = start(name)
    (container,) = docker_client.containers.list(
        filters={"label": f"{labels.KERNEL_ID}={kernel_id}"}
    )

    def restart() -> int:
        return server.call("POST", f"kernels/{kernel_id}/restart").status_code

    def started_at() -> str:
        container.reload()
        return str(container.attrs["State"]["StartedAt"])

    before = started_at()
    with ThreadPoolExecutor() as at_once:
        first = at_once.submit(restart)
        eventually(lambda: started_at() != before, "the container to be started again")
        second = at_once.submit(restart)
        assert 200 in (first.result(), second.result())
    container.reload()
    assert container.status == "running"  # the same one, with all that was installed in it
    with server.channels(kernel_id) as channels:
        assert channels.run("print(1)") == "1\n"
    assert server.delete(kernel_id) == 204
    assert containers_of(kernel_id) == []


def test_two_front_ends_share_a_kernel(server: Server, start: Start):
    kernel_id = start("ipc")
    with server.channels(kernel_id) as one, server.channels(kernel_id, LEGACY) as other:
        assert one.run("shared = 7") == ""
        assert other.run("print(shared)") == "7\n"
        assert one.until("stream") == {"name": "stdout", "text": "7\n"}
        assert server.model(kernel_id)["connections"] == 2


def test_a_session_keeps_its_kernel_over_a_restart(server: Server):
    note = {"name": "note.ipynb", "path": "sub/note.ipynb", "type": "notebook"}
    created = server.call("POST", "sessions", **note, kernel={"name": "ipc"})
    assert created.status_code == 201, created.text
    session, kernel_id = created.json()["id"], created.json()["kernel"]["id"]
    name = "import os; print(os.environ['JPY_SESSION_NAME'])"
    for _ in range(2):
        with server.channels(kernel_id) as channels:
            assert channels.run(name) == f"{server.root}/sub/note.ipynb\n"
        server.call("POST", f"kernels/{kernel_id}/restart")
    assert server.call("GET", f"sessions/{session}").json()["kernel"]["id"] == kernel_id
    assert server.call("DELETE", f"sessions/{session}").status_code == 204
    assert server.call("GET", f"kernels/{kernel_id}").status_code == 404


def test_paths_are_resolved_in_the_kernels_folder_and_nowhere_else(server: Server, start: Start):
    kernel_id = start("ipc", path="sub")

    def resolved(path: str) -> list[dict[str, str]]:
        reply = server.call("GET", f"resolvePath?path={path}&kernel={kernel_id}")
        return [entry for entry in reply.json()["resolved"] if entry["scope"] == "kernel"]

    assert resolved("data.csv") == [{"scope": "kernel", "path": f"{server.root}/sub/data.csv"}]
    assert [resolved(path) for path in ("/etc/passwd", "../own.txt", "~/.ssh")] == [[], [], []]


def test_an_idle_kernel_is_culled_with_its_container(
    server: Server, start: Start, containers_of: ContainersOf
):
    kernel_id = start("culled")
    assert containers_of(kernel_id) == ["running"]
    gone = lambda: server.call("GET", f"kernels/{kernel_id}").status_code == 404  # noqa: E731
    eventually(gone, "the kernel to be culled")
    assert containers_of(kernel_id) == []


@pytest.mark.parametrize("pending", [False, True])
def test_a_server_that_is_terminated_leaves_nothing(containers_of: ContainersOf, pending: bool):
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        write_kernelspec(runtime, "tcp", profile="dev", transport="tcp")
        option = f"--MappingKernelManager.use_pending_kernels={pending}"
        with jupyter_server(runtime, folder, option) as server:
            # With pending kernels they are still starting when the signal comes.
            kernel_ids = [server.start(name, path="") for name in ("ipc", "tcp")]
            assert server.stop() == 0
        assert [containers_of(kernel_id) for kernel_id in kernel_ids] == [[], []]
        assert [path.name for path in left_below(runtime)] == ["jupyter_cookie_secret"]
