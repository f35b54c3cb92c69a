"""jupyter_server's kernel services with every limit set: ours is the websocket class they reach."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import docker
import pytest
import websocket
from jupyter_client.session import Session

from container_provisioner.labels import container_name

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .server_process import (
    LEGACY,
    SILENCE,
    TOKEN,
    V1,
    Channels,
    Server,
    eventually,
    jupyter_server,
)
from .test_kernel_services import come_back_when_it_has_ended, culled_after, printed

pytestmark = pytest.mark.docker

LONGEST = 1_000_000  # bytes of a message from a page

LIMITS = (
    "--MappingKernelManager.cull_interval=1",
    "--MappingKernelManager.cull_idle_timeout=3600",
    "--MappingKernelManager.cull_connected=True",
    "--MappingKernelManager.cull_busy=True",
    "--MappingKernelManager.buffer_offline_messages=False",
    "--MappingKernelManager.allow_tracebacks=False",
    *(
        f"--MappingKernelManager.allowed_message_types={kind}"
        for kind in ("kernel_info_request", "execute_request")
    ),
    # 50 messages and 100 000 bytes in a window that is longer than any cell here takes.
    "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0.5",
    "--ZMQChannelsWebsocketConnection.iopub_data_rate_limit=1000",
    "--ZMQChannelsWebsocketConnection.rate_limit_window=100",
    f"--ServerApp.tornado_settings={{'websocket_max_message_size': {LONGEST}}}",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        write_kernelspec(runtime, "culled", spec=culled_after(4))
        with jupyter_server(runtime, folder, *LIMITS) as server:
            yield server


@pytest.fixture(scope="module")
def kernel_id(server: Server) -> str:
    """For tests that leave it as it was."""
    return server.start("ipc", path="")


@pytest.fixture
def channels(server: Server, kernel_id: str) -> Iterator[Channels]:
    with server.channels(kernel_id) as channels:
        yield channels


def test_a_busy_kernel_with_a_page_is_culled_if_it_is_to_be(
    server: Server, docker_client: docker.DockerClient
):
    kernel_id = server.start("culled", path="")
    with server.channels(kernel_id) as page:
        request = page.execute("import time; time.sleep(3600)")
        page.until("status", request, execution_state="busy")
        eventually(lambda: server.call("GET", f"kernels/{kernel_id}").status_code == 404, "culling")
    assert server.lines("Culling 'busy' kernel 'culled'", kernel_id)
    assert server.lines("with 1 connections", kernel_id)
    with pytest.raises(docker.errors.NotFound):
        docker_client.containers.get(container_name(kernel_id))


def test_too_many_messages_are_held_back(channels: Channels):
    said = channels.run("for number in range(300): display(number)")
    assert "IOPub message rate exceeded" in said
    assert "iopub_msg_rate_limit=0.5 (msgs/sec)" in said
    kinds = [message["header"]["msg_type"] for message in channels.seen]
    assert kinds.count("display_data") == 50
    assert channels.run("print(1)") == "1\n"


def test_too_much_output_is_held_back(channels: Channels):
    said = channels.run("print('.' * 90_000, flush=True)\nprint('.' * 900_000, flush=True)")
    assert "IOPub data rate exceeded" in said
    assert "iopub_data_rate_limit=1000.0 (bytes/sec)" in said
    assert 90_000 <= said.count(".") < 100_000
    assert channels.run("print(1)") == "1\n"


def test_tracebacks_do_not_reach_a_page(server: Server):
    """jupyter_server 2.21 stumbles over each error then, whichever kernel it is of, and the page
    hears no more: so this has a kernel of its own, and asks the server when the cell has ended."""
    kernel_id = server.start("ipc", path="")
    with server.channels(kernel_id) as channels:
        request = channels.execute("1 / 0")
        assert channels.until("execute_reply", request)["status"] == "error"
        eventually(lambda: server.model(kernel_id)["execution_state"] == "idle", "the cell to end")
        channels.socket.settimeout(0.5)
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            while True:
                channels.receive()
        published = [message for message in channels.seen if message["channel"] == "iopub"]
        assert "ZeroDivisionError" not in str(published)
    server.clear_away(kernel_id)


def test_messages_of_other_types_are_not_passed_on(server: Server, channels: Channels):
    ignored = channels.send("complete_request", code="prin", cursor_pos=4)
    assert channels.run("print(1)") == "1\n"
    assert ignored not in [message["parent_header"].get("msg_id") for message in channels.seen]
    assert server.lines('message of type "complete_request", which is not allowed')


def test_a_message_may_be_as_long_as_the_server_lets_it(server: Server, kernel_id: str):
    """What is longer ends the websocket, not the kernel."""
    with server.channels(kernel_id) as channels:
        assert channels.run(f"x = '{'.' * (LONGEST - 10_000)}'; print(len(x))") == "990000\n"
        with pytest.raises((OSError, websocket.WebSocketException, ValueError)):  # noqa: PT012
            channels.execute("#" * LONGEST)
            channels.until("execute_reply")
    with server.channels(kernel_id) as channels:
        assert channels.run("print(len(x))") == "990000\n"


def test_nothing_is_kept_for_a_page_if_it_is_not_to_be(server: Server, kernel_id: str):
    with come_back_when_it_has_ended(server, kernel_id) as (_, again):
        assert again.run("print(1)") == "1\n"
        assert printed(again) == "1\n"


def test_nobody_waits_longer_than_the_server_does_for_a_kernel_that_is_silent(
    docker_client: docker.DockerClient,
):
    """It is paused, which is no death. When it goes on, it answers."""
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        seconds = "--MappingKernelManager.kernel_info_timeout=2"
        with jupyter_server(runtime, folder, seconds) as server:
            kernel_id = server.start("ipc", path="")
            container = docker_client.containers.get(container_name(kernel_id))
            container.pause()
            with server.channels(kernel_id):  # nothing comes, but a page need not wait for that
                assert server.lines("Timeout waiting for kernel_info reply from", kernel_id)
            container.unpause()

            def answer() -> str:
                try:
                    with server.channels(kernel_id) as channels:
                        return channels.run("print(1)")
                except (OSError, websocket.WebSocketException):  # two seconds can be too few
                    return ""

            assert eventually(answer, "the kernel to answer") == "1\n"
            assert not server.lines("The kernel died:", kernel_id)
            assert server.delete(kernel_id) == 204


def test_an_operator_may_choose_the_legacy_protocol():
    """Also for a page that offers the other one."""
    legacy = "--ZMQChannelsWebsocketConnection.kernel_ws_protocol="
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        with jupyter_server(runtime, folder, legacy) as server:
            kernel_id = server.start("ipc", path="")
            page = Session(session=uuid.uuid4().hex)
            # By hand: this client refuses a server that takes none of what is offered.
            socket = websocket.create_connection(
                f"{server.url.replace('http', 'ws', 1)}api/kernels/{kernel_id}/channels"
                f"?session_id={page.session}",
                header=[f"Authorization: token {TOKEN}", f"Sec-WebSocket-Protocol: {V1}"],
                timeout=SILENCE,
            )
            assert socket.getsubprotocol() is None
            assert Channels(socket, page, LEGACY).run("print(1)") == "1\n"
            socket.close()
            assert server.delete(kernel_id) == 204
