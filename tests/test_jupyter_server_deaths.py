"""What a front end sees of a kernel that dies, under a real Jupyter Server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from container_provisioner import labels

from .conftest import PLAIN_IMAGE, own_jupyter, shared_folder, write_kernelspec
from .server_process import Channels, Server, eventually, jupyter_server

pytestmark = pytest.mark.docker

RESTARTED = 5  # the restarter's own limit

# Fails to start once there is a file ``broken`` in the notebook's folder; ends by itself after it
# has opened all its channels once there is a file ``brief``.
MOODY = """
import os, runpy, sys, threading, time
def end_when_started():
    while not all(os.path.exists(f"/run/kernel/sockets/k-{n}") for n in range(1, 6)):
        time.sleep(0.01)
    time.sleep(0.3)
    os._exit(4)
if os.path.exists("broken"):
    sys.exit("there is no more")
if os.path.exists("brief"):
    threading.Thread(target=end_when_started, daemon=True).start()
runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        write_kernelspec(runtime, "tcp", profile="dev", transport="tcp")
        write_kernelspec(runtime, "small", memory_limit="200m")
        write_kernelspec(runtime, "moody", argv=["python", "-c", MOODY, "-f", "{connection_file}"])
        write_kernelspec(runtime, "no-kernel", image=PLAIN_IMAGE)
        write_kernelspec(runtime, "no-image", image="no-such/image:1", pull_policy="never")
        with jupyter_server(runtime, folder, "--KernelRestarter.time_to_dead=0.5") as server:
            yield server


@pytest.fixture
def start(server: Server) -> Iterator[Callable[[str], str]]:
    with server.starting() as start:
        yield start
    for name in ("broken", "brief"):
        (server.root / name).unlink(missing_ok=True)


@pytest.fixture
def containers_of(docker_client: docker.DockerClient) -> Callable[[str], list[Container]]:
    def containers(kernel_id: str) -> list[Container]:
        label = f"{labels.KERNEL_ID}={kernel_id}"
        return list(
            docker_client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        )

    return containers


ContainersOf = Callable[[str], list[Container]]
Start = Callable[[str], str]

KILLED = "it was ended by SIGKILL from outside or by itself (exit code 137)"


def kill(container: Container) -> str:
    container.kill()
    return KILLED


def remove(container: Container) -> str:
    container.remove(force=True)
    return "its container was removed from outside"


@pytest.mark.parametrize("name", ["ipc", "tcp"])
@pytest.mark.parametrize("end", [kill, remove])
def test_a_killed_or_removed_kernel_is_restarted_under_its_id(
    server: Server,
    start: Start,
    containers_of: ContainersOf,
    name: str,
    end: Callable[[Container], str],
):
    """F12."""
    kernel_id = start(name)
    with server.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
        (container,) = containers_of(kernel_id)
        cause = end(container)
        channels.until("status", execution_state="restarting")
    with server.channels(kernel_id) as channels:  # as JupyterLab does when it is told
        assert channels.run("x").startswith("NameError")
    assert [container.status for container in containers_of(kernel_id)] == ["running"]
    assert server.model(kernel_id)["reason"].startswith(f"The kernel died: {cause}")
    assert len(server.lines("The kernel died:", kernel_id)) == 1


@pytest.mark.parametrize("name", ["ipc", "tcp"])
def test_activity_is_followed_after_a_death(
    server: Server, start: Start, containers_of: ContainersOf, name: str
):
    """F22: over tcp the ports are new ones, which the server is told of."""
    kernel_id = start(name)
    with server.channels(kernel_id) as channels:
        containers_of(kernel_id)[0].kill()
        channels.until("status", execution_state="restarting")
    with server.channels(kernel_id) as channels:
        before = server.model(kernel_id)["last_activity"]
        eventually(
            lambda: channels.run("1") == "" and server.model(kernel_id)["last_activity"] > before,
            "last_activity to move",
            timeout=8,
        )


def test_a_kernel_that_runs_out_of_memory_says_so_with_its_limit(server: Server, start: Start):
    """F29. The model's reason, and the same line once in the server's log."""
    kernel_id = start("small")
    with server.channels(kernel_id) as channels:
        channels.execute("b'x' * 2**30")
        channels.until("status", execution_state="restarting")
    reason = server.model(kernel_id)["reason"]
    assert reason.startswith("The kernel died: it ran out of memory (memory_limit is 200 MiB).")
    (line,) = server.lines("The kernel died:", kernel_id)
    assert line.endswith(f"Kernel {kernel_id}: {reason}")


def test_a_reason_is_forgotten_when_somebody_restarts_the_kernel(
    server: Server, start: Start, containers_of: ContainersOf
):
    kernel_id = start("ipc")
    with server.channels(kernel_id) as channels:
        containers_of(kernel_id)[0].kill()
        channels.until("status", execution_state="restarting")
    with server.channels(kernel_id) as channels:
        assert channels.run("1") == ""
    assert "SIGKILL" in server.model(kernel_id)["reason"]
    assert server.call("POST", f"kernels/{kernel_id}/restart").status_code == 200
    assert "reason" not in server.model(kernel_id)


def deaths(channels: Channels) -> list[str]:
    """What a front end is told until the server gives up."""
    channels.until("status", execution_state="dead")
    told = [
        message["content"]["execution_state"]
        for message in channels.seen
        if message["header"]["msg_type"] == "status"
    ]
    return [state for state in told if state in ("restarting", "dead")]


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("broken", "The kernel died while it started: it ended with exit code 1."),
        ("brief", "The kernel died: it ended with exit code 4."),
    ],
)
def test_a_kernel_that_goes_on_dying_is_given_up_and_removed(
    server: Server, start: Start, containers_of: ContainersOf, mood: str, said: str
):
    """F28: whether it does not start again, or starts and dies soon after."""
    kernel_id = start("moody")
    with server.channels(kernel_id) as channels:
        assert channels.run("1") == ""
        (server.root / mood).touch()
        containers_of(kernel_id)[0].kill()
        assert deaths(channels) == ["restarting"] * RESTARTED + ["dead"]
    assert len(server.lines(KILLED, kernel_id)) == 1
    assert len(server.lines(said, kernel_id)) == RESTARTED
    assert server.call("GET", f"kernels/{kernel_id}").status_code == 404
    eventually(lambda: containers_of(kernel_id) == [], "the container to be removed")


def test_a_kernel_is_well_again_when_what_broke_it_is_gone(
    server: Server, start: Start, containers_of: ContainersOf
):
    """A restart that fails is a death among others: the next one may succeed."""
    kernel_id = start("moody")
    with server.channels(kernel_id) as channels:
        (server.root / "broken").touch()
        containers_of(kernel_id)[0].kill()
        channels.until("status", execution_state="restarting")
        channels.until("status", execution_state="restarting")
        (server.root / "broken").unlink()
    with server.channels(kernel_id) as channels:
        assert channels.run("print(1)") == "1\n"
    assert [container.status for container in containers_of(kernel_id)] == ["running"]


NO_KERNEL = f"image '{PLAIN_IMAGE}' has no command 'python', so no kernel can be started in it"
NO_IMAGE = "Image 'no-such/image:1' is not present on the engine"


@pytest.mark.parametrize(("name", "words"), [("no-kernel", NO_KERNEL), ("no-image", NO_IMAGE)])
def test_a_start_that_fails_names_the_image(server: Server, name: str, words: str):
    """F34. Notebooks start through sessions, whose answer has the message; kernels' never has."""
    model: dict[str, Any] = {"path": f"{name}.ipynb", "type": "notebook", "kernel": {"name": name}}
    refused = server.call("POST", "sessions", **model, name=name)
    assert refused.status_code == 500
    assert words in refused.json()["message"]

    logged = len(server.lines(words))
    assert server.call("POST", "kernels", name=name).status_code == 500
    assert len(server.lines(words)) > logged
    assert server.call("GET", "kernels").json() == []


def test_a_pending_kernel_that_does_not_start_has_a_reason(containers_of: ContainersOf):
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "no-kernel", image=PLAIN_IMAGE)
        option = "--MappingKernelManager.use_pending_kernels=True"
        with jupyter_server(runtime, folder, option) as server:
            kernel_id = server.start("no-kernel")
            eventually(lambda: "reason" in server.model(kernel_id), "the reason")
            assert NO_KERNEL in server.model(kernel_id)["reason"]
            assert server.delete(kernel_id) == 204
            assert containers_of(kernel_id) == []
