"""Every front end of a kernel that dies is told why, below a cell of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import docker
import pytest
import websocket
from jupyter_client.session import Session

from container_provisioner.labels import container_name
from container_provisioner.server.death_notices import GIVEN_UP, RESTARTED

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .server_process import LEGACY, TIMEOUT, TOKEN, V1, Channels, Server, jupyter_server
from .test_jupyter_server_deaths import MOODY

pytestmark = pytest.mark.docker

KILLED = "The kernel died: it was ended by SIGKILL from outside or by itself (exit code 137)."
LIMITS = (  # sixty messages in half a minute
    "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=2",
    "--ZMQChannelsWebsocketConnection.rate_limit_window=30",
)
FLOOD = """
import os, signal, sys, time
for _ in range(100):
    sys.stdout.write("x\\n")
    sys.stdout.flush()
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "contained")
        write_kernelspec(runtime, "local", stanza=False)
        write_kernelspec(runtime, "moody", argv=["python", "-c", MOODY, "-f", "{connection_file}"])
        options = ("--KernelRestarter.time_to_dead=0.3", *LIMITS)
        with jupyter_server(runtime, folder, *options) as server:
            yield server


Start = Callable[[str], str]


@pytest.fixture
def start(server: Server) -> Iterator[Start]:
    with server.starting() as start:
        yield start


@contextlib.contextmanager
def nameless(server: Server, kernel_id: str) -> Iterator[Channels]:
    """A front end that does not tell the server the name that its messages have."""
    socket = websocket.create_connection(
        f"{server.url.replace('http', 'ws', 1)}api/kernels/{kernel_id}/channels",
        header=[f"Authorization: token {TOKEN}"],
        subprotocols=[V1],
        timeout=TIMEOUT,
    )
    yield Channels(socket, Session(), V1)
    socket.close()


def notices(channels: Channels, state: str = "restarting") -> list[tuple[str, str]]:
    """Each that came until the kernel was said to be in that state: its request, its text."""
    channels.until("status", execution_state=state)
    return [
        (message["parent_header"].get("msg_id", ""), message["content"]["text"])
        for message in channels.seen
        if message["header"]["msg_type"] == "stream"
        and message["content"]["text"].startswith("The kernel died")
    ]


@pytest.mark.parametrize("protocol", [V1, LEGACY])
def test_each_front_end_is_told_at_its_own_cell(
    server: Server, start: Start, docker_client: docker.DockerClient, protocol: str
):
    """One has a cell running, one ran one earlier, one gave no name, one has only looked on."""
    kernel_id = start("contained")
    with (
        server.channels(kernel_id, protocol) as first,
        server.channels(kernel_id, protocol) as second,
        nameless(server, kernel_id) as third,
        server.channels(kernel_id, protocol) as onlooker,
    ):
        earlier = second.execute("1")
        second.until("execute_reply", earlier)
        assert first.run("2") == ""
        running = first.execute("print('begins', flush=True)\nwhile True: pass")
        first.until("stream", running)
        waiting = first.execute("3")
        docker_client.containers.get(container_name(kernel_id)).kill()

        (mine,) = notices(first)
        assert mine[0] == running != waiting
        reason, outcome, end = mine[1].split("\n")
        assert reason == server.model(kernel_id)["reason"]
        assert reason.startswith(KILLED)
        assert (outcome, end) == (RESTARTED, "")
        assert notices(second) == [(earlier, mine[1])]
        assert notices(third) == [(running, mine[1])]
        assert notices(onlooker) == [(running, mine[1])]
        # As a page takes it: the answer to one's own request, from the kernel's own channel.
        told = next(each for each in first.seen if each["content"].get("text") == mine[1])
        assert told["channel"] == "iopub"
        assert told["parent_header"]["session"] == first.session.session


def test_a_front_end_that_has_run_nothing_is_told_all_the_same(
    server: Server, start: Start, docker_client: docker.DockerClient
):
    kernel_id = start("contained")
    with server.channels(kernel_id) as channels:
        docker_client.containers.get(container_name(kernel_id)).remove(force=True)
        ((parent, text),) = notices(channels)
        assert parent == ""
        assert text.startswith("The kernel died: its container was removed from outside.")


def test_a_limit_on_output_does_not_hold_it_back(server: Server, start: Start):
    kernel_id = start("contained")
    with server.channels(kernel_id) as channels:
        request = channels.execute(FLOOD)
        ((parent, text),) = notices(channels)
        assert (parent, text[: len(KILLED)]) == (request, KILLED)
        *_, exceeded, last = (
            message["content"]["text"]
            for message in channels.seen
            if message["header"]["msg_type"] == "stream"
        )
        assert "IOPub message rate exceeded." in exceeded
        assert last == text


def test_a_front_end_is_known_again_after_a_death(
    server: Server, start: Start, docker_client: docker.DockerClient
):
    """JupyterLab connects again after each."""
    kernel_id, page = start("contained"), Session()
    container = docker_client.containers.get(container_name(kernel_id))
    with server.channels(kernel_id, page=page) as channels:
        request = channels.execute("1")
        channels.until("execute_reply", request)
        container.kill()
        channels.until("status", execution_state="restarting")
    with server.channels(kernel_id, page=page) as channels:
        channels.until("status", channels.send("kernel_info_request"), execution_state="idle")
        container.kill()
        assert [parent for parent, _ in notices(channels)] == [request]


def test_a_front_end_that_was_away_is_told_when_it_is_back(
    server: Server, start: Start, docker_client: docker.DockerClient
):
    """The kernel runs on without a page, prints, dies and is another. A page may come anew, too."""
    kernel_id, page = start("contained"), Session()
    container = docker_client.containers.get(container_name(kernel_id))
    code = "import time\ntime.sleep(0.5)\nprint('at last', flush=True)\nwhile True: pass"
    with server.channels(kernel_id) as watching, server.channels(kernel_id, page=page) as channels:
        request = channels.execute(code)
        channels.until("execute_input", request)
        watching.until("execute_input", request)
    with server.channels(kernel_id) as watching:
        watching.until("stream", text="at last\n")
        container.kill()
        assert len(notices(watching)) == 1
    with server.channels(kernel_id) as channels:
        assert channels.run("print(1)") == "1\n"
    with server.channels(kernel_id, page=page) as channels:
        ((parent, text),) = notices(channels)
        assert (parent, text[: len(KILLED)]) == (request, KILLED)
    with server.channels(kernel_id, page=page) as channels:
        assert channels.run("print(2)") == "2\n"
        assert text not in [message["content"].get("text") for message in channels.seen]


def test_the_last_says_that_there_is_no_other(
    server: Server, start: Start, docker_client: docker.DockerClient
):
    kernel_id = start("moody")
    with server.channels(kernel_id) as channels:
        request = channels.execute("1")
        channels.until("execute_reply", request)
        (server.root / "broken").touch()
        docker_client.containers.get(container_name(kernel_id)).kill()
        told = notices(channels, "dead")
    assert {parent for parent, _ in told} == {request}
    lines = [text.splitlines() for _, text in told]
    assert [outcome for _, outcome in lines] == [RESTARTED] * 5 + [GIVEN_UP]
    assert lines[0][0].startswith(KILLED)
    for reason, _ in lines[1:]:
        assert reason.startswith("The kernel died while it started: it ended with exit code 1.")
        assert reason.endswith("Last output: there is no more")


def test_a_kernel_that_is_in_no_container_dies_as_ever(server: Server, start: Start):
    with server.channels(start("local")) as channels:
        channels.execute("import os; os.kill(os.getpid(), 9)")
        assert notices(channels) == []
