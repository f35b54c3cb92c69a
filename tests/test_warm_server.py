"""A Jupyter Server keeps pools for the kernelspecs that ask, in the folders that are used."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from container_provisioner import labels

from .conftest import WriteKernelspec
from .ends import left_below
from .keepers import container_of, nothing_stays_fixture, waiting  # noqa: F401 - a fixture
from .server_process import Server, eventually, jupyter_server

pytestmark = pytest.mark.docker

Containers = Callable[[], list[str]]


@pytest.fixture
def server(kernelspec: WriteKernelspec, runtime_dir: Path, folder: Path) -> Iterator[Server]:
    """Two kernelspecs, of which one asks; that one's container waits."""
    kernelspec("asks", warm_pool_size=1, restart_mode="recreate")
    kernelspec("asks-not")
    options = ("--KernelRestarter.time_to_dead=0.5",)
    with jupyter_server(runtime_dir, folder, *options) as running:
        full(1)
        yield running


def full(number: int) -> None:
    eventually(lambda: len(waiting()) == number, f"{number} to wait")


def notebook(server: Server, path: str, kernel: str = "asks") -> str:
    """Open it; the id of its kernel."""
    note = {"path": path, "name": path, "type": "notebook", "kernel": {"name": kernel}}
    reply = server.call("POST", "sessions", **note)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["kernel"]["id"])


def is_warm(docker_client: docker.DockerClient, kernel_id: str) -> bool:
    return labels.WARM in container_of(docker_client, kernel_id).labels


def end_all(server: Server, our_containers: Containers) -> None:
    """As an operator does; nothing is left."""
    assert server.stop() == 0
    assert our_containers() == []
    left = [path.name for path in left_below(server.address.parent)]
    assert left == ["jupyter_cookie_secret"]


def test_a_notebook_starts_warm_where_notebooks_were_started_before(
    server: Server, docker_client: docker.DockerClient, our_containers: Containers
) -> None:
    """In the root folder the first one does, in another one the second."""
    (server.root / "sub").mkdir(mode=0o755)
    seen = []
    for path in ("first.ipynb", "sub/first.ipynb", "sub/second.ipynb", "second.ipynb"):
        kernel_id = notebook(server, path)
        seen.append(is_warm(docker_client, kernel_id))
        with server.channels(kernel_id) as channels:
            code = "import os; print(os.path.basename(os.environ['JPY_SESSION_NAME']))"
            assert channels.run(code) == f"{Path(path).name}\n"
            assert channels.run("print(os.getcwd().endswith('sub'))") == f"{'sub' in path}\n"
        full(min(len(seen), 2))
    assert seen == [True, False, True, True]
    other = notebook(server, "third.ipynb", "asks-not")
    assert not is_warm(docker_client, other)
    end_all(server, our_containers)


def test_restarts_are_warm(
    server: Server, docker_client: docker.DockerClient, our_containers: Containers
) -> None:
    """The user's, and that of a kernel that was killed."""
    kernel_id = notebook(server, "first.ipynb")
    with server.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
        first = container_of(docker_client, kernel_id)
        full(1)
        reply = server.call("POST", f"kernels/{kernel_id}/restart")
        assert reply.status_code == 200, reply.text
        assert "NameError" in channels.run("x")
        second = container_of(docker_client, kernel_id)
        full(1)
        second.kill()
        eventually(
            lambda: (found := container_of(docker_client, kernel_id)) and found.id != second.id,
            "the restarter",
        )
        third = container_of(docker_client, kernel_id)
    with server.channels(kernel_id) as channels:
        assert channels.run("print(6 * 7)") == "42\n"
    assert len({first.id, second.id, third.id}) == 3
    assert [labels.WARM in container.labels for container in (first, second, third)] == [True] * 3
    assert len(server.lines("started in warm container", kernel_id)) == 3
    end_all(server, our_containers)


@pytest.mark.parametrize("moment", ["at-once", "full", "claimed"])
def test_a_server_that_is_killed_leaves_nothing(
    server: Server, nothing_stays: Callable[[], None], moment: str
) -> None:
    if moment != "full":
        notebook(server, "first.ipynb")
    if moment == "claimed":
        full(1)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    nothing_stays()
    assert waiting() == []


@pytest.mark.parametrize("delay", ["at-once", "made", "waits"])
def test_a_server_that_is_stopped_leaves_nothing(
    kernelspec: WriteKernelspec,
    runtime_dir: Path,
    folder: Path,
    our_containers: Containers,
    delay: str,
) -> None:
    """However far its pool is: when the server listens, nothing waits yet."""
    kernelspec("asks", warm_pool_size=2)
    with jupyter_server(runtime_dir, folder) as server:
        if delay == "made":
            eventually(our_containers, "a container")
        elif delay == "waits":
            full(1)
        end_all(server, our_containers)


def test_an_operator_may_have_none(
    kernelspec: WriteKernelspec,
    runtime_dir: Path,
    folder: Path,
    our_containers: Containers,
    docker_client: docker.DockerClient,
) -> None:
    kernelspec("asks", warm_pool_size=1)
    with jupyter_server(runtime_dir, folder, "--ContainerKernels.warm_limit=0") as server:
        for path in ("first.ipynb", "second.ipynb"):
            kernel_id = notebook(server, path)
            assert not is_warm(docker_client, kernel_id)
            with server.channels(kernel_id) as channels:
                assert channels.run("import time; time.sleep(1); print(6 * 7)") == "42\n"
        assert waiting() == []
        assert len(our_containers()) == 2
        end_all(server, our_containers)
