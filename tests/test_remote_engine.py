"""Kernels on an engine of another host, over TLS: encrypted, and used as those here."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
import trustme
import yaml
import zmq

from container_provisioner import launch_request
from container_provisioner.cli.asking import ENGINE_URL
from container_provisioner.errors import ConfigurationError, EngineError

from .command_line import command
from .conftest import IMAGE, StartKernel, WriteKernelspec
from .ends import end_of, left_below
from .installs import execute, installed, prefix_fixture  # noqa: F401 - a fixture
from .owners import StartOwner, assert_controlled, start_owner_fixture  # noqa: F401 - a fixture
from .places import Place, place_fixture  # noqa: F401 - a fixture
from .remote_engine import RemoteEngine, run
from .server_process import eventually, jupyter_server
from .successor import Successor, successor_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

MARKER = "nobody-reads-this-on-the-way"


@contextmanager
def capture(interface: str) -> Iterator[socket.socket]:
    """Whole frames of what goes over the wire, from now on."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024**2)
        tap.bind((interface, 0))
        tap.setblocking(False)
        yield tap


def frames(tap: socket.socket) -> bytes:
    seen = []
    while True:
        try:
            seen.append(tap.recv(65536))
        except BlockingIOError:
            return b"".join(seen)


async def test_nobody_on_the_way_reads_its_messages(
    remote: RemoteEngine, there: docker.DockerClient, start_kernel: StartKernel
):
    """Nor its key; and who looks at the container does not see it either."""
    with capture(remote.wire.interface) as tap:
        kernel = await start_kernel(image=IMAGE, engine_url=remote.url)
        assert await kernel.run(f"print({MARKER!r}, end='')") == MARKER
        key = kernel.manager.session.key
        seen = frames(tap)
        assert len(seen) > 10_000
        assert MARKER.encode() not in seen
        assert key not in seen
        body = there.api.inspect_container(kernel.container_id)
        assert key.decode() not in json.dumps(body)
        assert body["HostConfig"]["PortBindings"]["28501/tcp"][0]["HostIp"] == "0.0.0.0"
    assert kernel.manager.ip == remote.wire.there
    assert kernel.manager.curve_publickey is not None


async def test_who_may_be_read_is_said(
    remote: RemoteEngine, there: docker.DockerClient, start_kernel: StartKernel
):
    """The capture sees what is not encrypted; and that is refused unless it is asked for."""
    plain = {"metadata": {}, "env": {}}
    stanza = {"image": IMAGE, "engine_url": remote.url}

    def spec(**config: Any) -> dict[str, Any]:
        provisioner = {"provisioner_name": "container-provisioner", "config": config}
        return {**plain, "metadata": {"kernel_provisioner": provisioner}}

    with pytest.raises(ConfigurationError, match="supported_encryption"):
        await start_kernel(spec=spec(**stanza))
    with capture(remote.wire.interface) as tap:
        kernel = await start_kernel(spec=spec(**stanza, allow_plaintext=True))
        assert await kernel.run(f"print({MARKER!r}, end='')") == MARKER
        assert MARKER.encode() in frames(tap)


async def test_it_is_controlled_as_one_here(
    remote: RemoteEngine, there: docker.DockerClient, start_kernel: StartKernel
):
    kernel = await start_kernel(image=IMAGE, engine_url=remote.url)
    before = kernel.manager.shell_port
    await assert_controlled(kernel)
    assert kernel.manager.shell_port != before  # the engine gave it others, and that was noticed
    await kernel.provisioner.send_signal(signal.SIGKILL)
    assert await end_of(kernel) == 137


async def test_it_does_not_get_out(
    remote: RemoteEngine, there: docker.DockerClient, start_kernel: StartKernel
):
    """Its ports are published, and nobody answers what it sends by itself."""
    with socket.create_server((remote.wire.here, 0)) as server:
        connect = (
            "import socket\ntry:\n"
            f"    socket.create_connection({server.getsockname()!r}, 3).close(); print('out')\n"
            "except OSError as exc:\n    print(type(exc).__name__)"
        )
        sandboxed, open_ = (
            await start_kernel(image=IMAGE, engine_url=remote.url),
            await start_kernel(image=IMAGE, engine_url=remote.url, network="bridge"),
        )
        assert await sandboxed.run(connect) == "TimeoutError\n"
        assert await open_.run(connect) == "out\n"
        look_up = (
            "import socket\ntry: socket.gethostbyname('example.org')\nexcept OSError: print(1)"
        )
        assert await sandboxed.run(look_up) == "1\n"


async def test_it_is_taken_over_with_its_variables(
    kernelspec: WriteKernelspec,
    remote: RemoteEngine,
    there: docker.DockerClient,
    start_owner: StartOwner,
    successor: Successor,
    runtime_dir: Path,
):
    """F4: after a kill -9 of its owner, by a process that knows nothing but the runtime folder."""
    kernelspec(image=IMAGE, engine_url=remote.url, on_server_exit="keep")
    owner = start_owner()
    owner.die()
    kernel = await successor.adopt(owner.kernel_id)
    await kernel.ready()
    assert await kernel.run("x") == "1"
    await assert_controlled(kernel)


def test_it_ends_with_its_owner(
    kernelspec: WriteKernelspec,
    remote: RemoteEngine,
    there: docker.DockerClient,
    start_owner: StartOwner,
    runtime_dir: Path,
):
    kernelspec(image=IMAGE, engine_url=remote.url)
    owner = start_owner()
    assert len(there.containers.list()) == 1
    owner.die()
    eventually(lambda: there.containers.list(all=True) == [], "the guard to remove it")
    assert there.volumes.list() == []
    eventually(lambda: left_below(runtime_dir)[1:] == [], "its files to go")


def test_the_command_line_sees_it(
    kernelspec: WriteKernelspec,
    remote: RemoteEngine,
    there: docker.DockerClient,
    start_owner: StartOwner,
    runtime_dir: Path,
):
    kernelspec(image=IMAGE, engine_url=remote.url, on_server_exit="keep")
    owner = start_owner()
    listed = command("--engine-url", remote.url, "ps", "--json").json
    assert [item["kernel_id"] for item in listed] == [owner.kernel_id]
    owner.die()
    ended = command("--engine-url", remote.url, "kill", "--yes", owner.kernel_id)
    assert ended.code == 0, ended.stderr
    assert there.containers.list(all=True) == []


async def test_what_a_router_forgets_is_found_again(
    remote: RemoteEngine,
    there: docker.DockerClient,
    start_kernel: StartKernel,
    monkeypatch: pytest.MonkeyPatch,
):
    """F37: a router that forgets idle connections tells nobody. As a server connects."""
    monkeypatch.setitem(launch_request._HEARTBEAT, zmq.HEARTBEAT_IVL, 500)
    monkeypatch.setitem(launch_request._HEARTBEAT, zmq.HEARTBEAT_TIMEOUT, 500)
    kernel = await start_kernel(image=IMAGE, engine_url=remote.url)
    manager = kernel.manager
    inside = ("nsenter", f"--net=/var/run/netns/{remote.wire.namespace}")

    async def hears(listener: Any, words: bytes) -> None:
        for _ in range(30):
            kernel.client.execute(f"print({words.decode()!r})")
            while await listener.poll(1000):
                if any(words in frame for frame in await listener.recv_multipart()):
                    return
        pytest.fail(f"{words!r} was not heard")

    with manager.connect_iopub() as listener:
        await hears(listener, b"before")
        # Fails if there is nothing to forget.
        run(*inside, "conntrack", "-D", "-p", "tcp", "-d", remote.wire.there)
        await hears(listener, b"after")


async def test_what_an_operator_forgets_is_pruned(
    remote: RemoteEngine, there: docker.DockerClient, start_kernel: StartKernel
):
    """``docker rm -f`` leaves the volume in which the kernel's key is."""
    kernel = await start_kernel(image=IMAGE, engine_url=remote.url)
    there.containers.get(kernel.container_id).remove(force=True)
    assert len(there.volumes.list()) == 1
    await kernel.manager.shutdown_kernel(now=True)
    pruned = await asyncio.to_thread(command, "--engine-url", remote.url, "prune", "--json")
    assert [item["kind"] for item in pruned.json["removed"]] == ["volume"]
    assert there.volumes.list() == []


def test_doctor_says_where_it_is(
    remote: RemoteEngine, there: docker.DockerClient, kernelspec: WriteKernelspec
):
    said = command("--engine-url", remote.url, "doctor", kernelspec(image=IMAGE)).stdout
    assert f"at {remote.url} (engine_url)" in said
    assert f"another host, found at {remote.wire.there}; encrypted" in said


def test_installed_from_there_it_starts_there(
    remote: RemoteEngine,
    there: docker.DockerClient,
    prefix: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Whoever starts it later need not know where."""
    monkeypatch.setenv(ENGINE_URL, "")  # to be as it was, after the test
    name = remote.wire.there  # the image has a name that only that engine knows
    there.images.get(IMAGE).tag(f"only-there-{name}")
    try:
        arguments = (f"only-there-{name}", "--name", "far")
        ended = command("--engine-url", remote.url, "install", "--prefix", str(prefix), *arguments)
        assert ended.code == 0, ended.stderr
        monkeypatch.delenv(ENGINE_URL)
        stanza = installed(prefix)["far"]["metadata"]["kernel_provisioner"]["config"]
        assert stanza["engine_url"] == remote.url
        assert execute("far", "print(6 * 7)", folder) == "42\n"
    finally:
        there.images.remove(f"only-there-{name}")


async def test_a_cut_wire_kills_no_kernel(
    remote: RemoteEngine, there: docker.DockerClient, start_kernel: StartKernel
):
    """Unknown is not dead: its state is asked again, and its variables are there."""
    kernel = await start_kernel(image=IMAGE, engine_url=remote.url)
    await kernel.run("x = 1")
    remote.wire.cut()
    try:
        for _ in range(6):
            assert await kernel.manager.is_alive()
            await asyncio.sleep(0.5)
    finally:
        remote.wire.mend()
    assert await kernel.run("x") == "1"
    await kernel.provisioner.send_signal(signal.SIGKILL)
    assert await end_of(kernel) == 137


@pytest.mark.parametrize(
    ("stanza", "says"),
    [
        ({}, "Set image"),
        ({"image": IMAGE, "transport": "ipc"}, "on this one only"),
        ({"image": IMAGE, "workspace": "rw"}, "notebook's folder is not"),
        ({"image": IMAGE, "mounts": ["/var/run:/x"]}, "holds the engine's socket"),
        ({"image": IMAGE, "mounts": ["/no-such-path:/x"]}, "bind source path does not exist"),
    ],
    ids=["host", "ipc", "workspace", "socket", "mounts"],
)
async def test_what_cannot_be_there_is_refused(
    remote: RemoteEngine,
    there: docker.DockerClient,
    start_kernel: StartKernel,
    stanza: dict[str, Any],
    says: str,
):
    with pytest.raises((ConfigurationError, EngineError), match=says):
        await start_kernel(engine_url=remote.url, **stanza)


async def test_another_authority_is_not_trusted(
    remote: RemoteEngine, start_kernel: StartKernel, tmp_path: Path
):
    """Whoever answers there with a certificate of somebody else's gets no key."""
    stranger = trustme.CA()
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((remote.certificates / name).read_bytes())
    stranger.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with pytest.raises(EngineError, match="not of the authority"):
        await start_kernel(image=IMAGE, engine_url=f"{remote.address}?tls={tmp_path}")


async def test_the_environment_names_it(
    remote: RemoteEngine,
    there: docker.DockerClient,
    start_kernel: StartKernel,
    monkeypatch: pytest.MonkeyPatch,
):
    """As docker's own command finds it."""
    monkeypatch.setenv("DOCKER_HOST", remote.address)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(remote.certificates))
    kernel = await start_kernel(image=IMAGE)
    assert await kernel.run("1 + 1") == "2"
    assert len(there.containers.list()) == 1


# -- through a server ----------------------------------------------------------------------------


def test_a_servers_kernel_there_is_restarted_when_it_dies(
    kernelspec: WriteKernelspec,
    remote: RemoteEngine,
    there: docker.DockerClient,
    runtime_dir: Path,
    folder: Path,
):
    """F22: at other ports, and the front end's connection finds them."""
    name = kernelspec(image=IMAGE, engine_url=remote.url, workspace="none")
    with jupyter_server(runtime_dir, folder) as server:
        kernel_id = server.start(name)
        with server.channels(kernel_id) as channels:
            assert channels.run("print(1)") == "1\n"
            channels.execute("import os; os._exit(4)")
            channels.until("status", execution_state="restarting")
        with server.channels(kernel_id) as channels:
            assert channels.run("print(2)") == "2\n"
        assert "exit code 4" in server.model(kernel_id)["reason"]
        assert server.delete(kernel_id) == 204


def test_the_example(remote: RemoteEngine, there: docker.DockerClient, place: Place):
    document = "examples/remote-engine/README.md"
    place.run(document, "examples/remote-engine", ENGINE=remote.url, IMAGE=IMAGE)


def test_the_example_for_gitlab(remote: RemoteEngine, there: docker.DockerClient, place: Place):
    """Its job, with this engine in the place of the service's, and images that are here."""
    folder = place.checkout / "examples" / "notebooks-in-ci"
    job = yaml.safe_load((folder / "gitlab-ci.yml").read_text())["notebooks"]
    variables = {
        "DOCKER_HOST": remote.address,
        "DOCKER_CERT_PATH": str(remote.certificates),
        "IMAGE": IMAGE,
        "PROVISIONER": "container-provisioner",  # which is there already
    }
    assert variables.keys() < job["variables"].keys()
    (folder / "job.md").write_text("\n".join(["```sh", *job["script"], "```"]))
    place.run(
        "examples/notebooks-in-ci/job.md",
        "examples/notebooks-in-ci",
        **{**job["variables"], **variables},
    )
