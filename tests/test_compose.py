"""examples/compose: a server that is itself a container, its kernels beside it.

The images are those of scripts/test-images, and the server's is built as the example says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from pytest_docker.plugin import DockerComposeExecutor, get_docker_services

from container_provisioner.store import short_name

from . import documents
from .conftest import IMAGE
from .server_process import TOKEN, Server, eventually

pytestmark = pytest.mark.docker

CHECKOUT = Path(__file__).parent.parent
EXAMPLE, OURS = CHECKOUT / "examples" / "compose", Path(__file__).parent / "compose"
NOTEBOOKS = "/home/jovyan/notebooks"
PROJECT = "com.docker.compose.project"


@pytest.fixture(scope="module")
def docker_compose_command() -> str:
    """Version 2 where there is one, else Debian's docker-compose."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return "docker compose"
    assert shutil.which("docker-compose"), "no compose; scripts/test-packages installs it"
    return "docker-compose"


class Project(Server):
    """The example, up; and its server, as a front end sees it."""

    def __init__(self, client: docker.DockerClient, name: str, executor: Any) -> None:
        self.client, self.name, self._executor = client, name, executor

    def compose(self, command: str) -> str:
        return str(self._executor.execute(command, ignore_stderr=True).decode())

    @property
    def url(self) -> str:
        return self._url

    @property
    def container(self) -> Container:
        return self.of_service("jupyter")[0]

    @property
    def kernels(self) -> list[Container]:
        return self.of_service("jupyter-kernel")

    @property
    def log(self) -> str:
        return str(self.container.logs().decode())

    def of_service(self, service: str) -> list[Container]:
        wanted = [f"{PROJECT}={self.name}", f"com.docker.compose.service={service}"]
        found = self.client.containers.list(filters={"label": wanted}, ignore_removed=True)
        return list(found)

    def up(self, *options: str) -> None:
        """Returns when the server listens."""
        self.compose(" ".join(["up", "-d", *options]))
        (published,) = self.container.ports["8888/tcp"]
        self._url = f"http://{published['HostIp']}:{published['HostPort']}/"
        eventually(lambda: self.answers, "the server to listen")

    def in_server(self, code: str, *arguments: str, **options: Any) -> str:
        """Run Python in the server's container; what it wrote."""
        _, output = self.container.exec_run(["python", "-c", code, *arguments], **options)
        return output.decode() if output else ""

    def key(self, directory: str) -> str:
        """Of the kernel with that private directory in the server's container."""
        read = "import glob, json; print(json.load(open(glob.glob({})[0]))['key'])"
        return self.in_server(read.format(repr(f"{directory}/connection.json"))).strip()

    def left(self) -> list[str]:
        """What there is of it on the engine, of any kind."""
        wanted = {"label": f"{PROJECT}={self.name}"}
        return [
            *(item.name for item in self.client.containers.list(all=True, filters=wanted)),
            *(item.name for item in self.client.networks.list(filters=wanted)),
            *(item.name for item in self.client.volumes.list(filters=wanted)),
        ]


Up = Callable[..., AbstractContextManager[Project]]


@pytest.fixture(scope="module")
def up(
    docker_client: docker.DockerClient, docker_compose_command: str, server_image: str
) -> Iterator[Up]:
    """The example with these files of it and of ours; down at the end, and nothing is left."""

    @contextmanager
    def start(variant: str, *files: str) -> Iterator[Project]:
        name = f"cp{os.getpid()}-{variant}"
        paths = [str(next(f for f in (EXAMPLE / n, OURS / n) if f.exists())) for n in files]
        call = (docker_compose_command, paths, name)
        with get_docker_services(*call, [], ["down -v --remove-orphans -t 20"]):
            project = Project(docker_client, name, DockerComposeExecutor(*call))
            project.up()
            try:
                yield project
            except BaseException:
                print(project.log)  # for pytest to show
                raise
        assert project.left() == []

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as notebooks:
        Path(notebooks).chmod(0o777)
        Path(notebooks, "beside.txt").write_text("of the host")
        for variable, value in {
            "JUPYTER_IMAGE": server_image,
            "KERNEL_IMAGE": IMAGE,
            "PROXY_IMAGE": "container-provisioner-test/proxy:1",
            "JUPYTER_TOKEN": TOKEN,
            "PORT": "",  # any that is free
            "DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
            "NOTEBOOKS": notebooks,
        }.items():
            patch.setenv(variable, value)
        yield start


OWNER = """
import sys, time
from jupyter_client import KernelManager
manager = KernelManager()
manager.start_kernel()
print(manager.kernel_id, flush=True)
time.sleep(300)
"""

LEASES = "from container_provisioner.store import *; print(sum(map(lease_is_held, leases())))"


def test_messages_need_no_network(up: Up):
    """F25, F4: behind a proxy, over sockets on a volume; a server that is killed is followed by one
    that has its kernels, and what was not to be kept is gone then."""
    with up("ipc", "compose.yaml", "compose.proxy.yaml") as project:
        kernel_id = project.start("python3")
        with project.channels(kernel_id) as kernel:
            assert kernel.run("import os; print(os.getcwd(), end='')") == NOTEBOOKS
            assert kernel.run("open('made.txt', 'w').write('by the kernel'); x = 1") == ""
        contents = project.call("GET", "contents/made.txt").json()
        assert contents["content"] == "by the kernel"
        (container,) = project.kernels
        assert container.attrs["HostConfig"]["NetworkMode"] == "none"
        assert len(project.lines("This server runs in container")) == 1

        assert project.call("POST", f"kernels/{kernel_id}/restart").ok
        with project.channels(kernel_id) as kernel:
            assert "NameError" in kernel.run("x")
            kernel.run("x = 2")
        assert [found.id for found in project.kernels] == [container.id]

        said = project.in_server(OWNER, workdir="/tmp")
        assert "'/tmp' is on no mount of this server's container" in said
        assert f"{NOTEBOOKS} is /var/lib/docker/volumes/" in said

        doctor = "import sys; from container_provisioner.cli import main; sys.exit(main())"
        assert "ipc: This server runs in container" in project.in_server(doctor, "doctor")

        # Somebody else in the server's container, whose kernel is not to be kept.
        not_kept = {"CONTAINER_PROVISIONER_ON_SERVER_EXIT": "stop"}
        project.in_server(OWNER, environment=not_kept, detach=True)
        eventually(lambda: len(project.kernels) == 2, "the other kernel to start")
        other = project.compose(f"run --rm --no-deps -T jupyter python -c '{LEASES}'")
        assert other.split() == ["2"]  # a lock means the same in every container
        project.container.kill()
        eventually(lambda: not project.of_service("jupyter"), "the server to be dead")
        other = project.compose(f"run --rm --no-deps -T jupyter python -c '{LEASES}'")
        assert other.split() == ["0"]
        assert len(project.kernels) == 2  # the guard has died with them

        project.up("--force-recreate")
        eventually(lambda: len(project.kernels) == 1, "the guard to remove the other's")
        assert [model["id"] for model in project.call("GET", "kernels").json()] == [kernel_id]
        with project.channels(kernel_id) as kernel:
            assert kernel.run("print(x, end='')") == "2"


# As any program in the network could, and with the key of its signatures even.
INTRUDER = """
import zmq
from jupyter_client.session import Session
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 0
monitor = socket.get_monitor_socket(zmq.EVENT_CONNECTED)
socket.connect("tcp://{address}:28501")
Session(key={key!r}).send(socket, "kernel_info_request")
print(bool(monitor.poll(5000)), bool(socket.poll(1500)))
"""


def test_messages_over_a_network(up: Up):
    """F18, F24, F25: with the socket mounted, and notebooks in a folder of the host's."""
    files = ("compose.yaml", "compose.socket.yaml", "compose.network.yaml", "bind.yaml")
    with up("net", *files) as project:
        kernel_id = project.start("python3")
        with project.channels(kernel_id) as kernel:
            assert kernel.run("print(open('beside.txt').read(), end='')") == "of the host"
        assert project.call("POST", f"kernels/{kernel_id}/restart").ok
        with project.channels(kernel_id) as kernel:
            kernel.run("x = 3")
        (container,) = project.kernels
        container.reload()
        joined = container.attrs["NetworkSettings"]
        assert list(joined["Networks"]) == [f"{project.name}_kernels"]
        assert not any(joined["Ports"].values())

        second = project.start("python3")
        address = joined["Networks"][f"{project.name}_kernels"]["IPAddress"]
        key = project.key(f"/run/jupyter/container-provisioner/{short_name(kernel_id)}")
        with project.channels(second) as intruder:
            intrusion = INTRUDER.format(address=address, key=key.encode())
            assert intruder.run(intrusion) == "True False\n"  # it wants another key as well

        project.up("--force-recreate")
        models = project.call("GET", "kernels").json()
        assert {model["id"] for model in models} == {kernel_id, second}
        with project.channels(kernel_id) as kernel:
            assert kernel.run("print(x, end='')") == "3"


def test_a_server_without_a_volume(up: Up):
    """Files are uploaded, and its kernels end with it, as their private volumes do."""
    with up("bare", "compose.yaml", "compose.proxy.yaml", "no-runtime.yaml") as project:
        kernel_id = project.start("python3")
        with project.channels(kernel_id) as kernel:
            assert kernel.run("print(6 * 7, end='')") == "42"
        (container,) = project.kernels
        assert list(container.attrs["NetworkSettings"]["Networks"]) == [f"{project.name}_default"]
        assert project.lines("has a way out", kernel_id)
        key = project.key("/tmp/runtime/container-provisioner/*")
        assert len(key) > 20
        assert key not in str(project.client.api.inspect_container(container.id))
        mounted = [mount["Type"] for mount in container.attrs["Mounts"]]
        assert sorted(mounted) == ["bind", "volume"]  # the notebooks, and what is private
        project.compose("stop jupyter")
        assert project.kernels == []


def test_what_its_readme_says(
    up: Up, docker_client: docker.DockerClient, docker_compose_command: str, tmp_path: Path
):
    """`up` has built the server's image, so that the README's `docker compose` finds it."""
    command = tmp_path / "docker"
    command.write_text(f'#!/bin/sh\nshift\nexec {docker_compose_command} "$@"\n')
    command.chmod(0o755)
    name = f"cp{os.getpid()}-readme"
    paths = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": paths, "COMPOSE_PROJECT_NAME": name}
    try:
        documents.run(EXAMPLE / "README.md", EXAMPLE, environment)
        assert Project(docker_client, name, None).left() == []
    except BaseException:
        subprocess.run([command, "compose", "down", "-v"], cwd=EXAMPLE, env=environment)
        raise
