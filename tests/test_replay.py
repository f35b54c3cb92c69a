"""What a kernel says while no server is there reaches the page that was open, once and in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.session import Session

from container_provisioner.guard import ask_guard
from container_provisioner.labels import container_name

from .conftest import WriteKernelspec
from .ends import until
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import Channels, eventually, jupyter_server
from .test_kernel_services import COUNT_IN_A_THREAD

pytestmark = pytest.mark.docker

# The notebook's folder is mounted: the tests say by a file there when the dead time has begun.
WAIT = "import os, time\nwhile not os.path.exists('begin'): time.sleep(0.05)\n"


def cut_off(runtime_dir: Path, folder: Path, code: str) -> tuple[str, Session, str]:
    """A page has a cell run, which waits to begin, when its server is killed.

    The kernel, the page, and its request.
    """
    with (
        jupyter_server(runtime_dir, folder) as server,
        server.channels(kernel_id := server.start("keep", path="")) as channels,
    ):
        request = channels.send("execute_request", code=WAIT + code, allow_stdin=True)
        channels.until("execute_input", request)
        server.process.kill()
        server.process.wait()
        return kernel_id, channels.session, request


def state(kernel_id: str) -> dict[str, Any]:
    """What the guard knows of a kernel."""
    return asyncio.run(ask_guard("state", kernel=kernel_id, start=False))


def of_request(channels: Channels, request: str) -> list[tuple[str, str]]:
    """Channel and kind of each message that answers it."""
    return [
        (message["channel"], message["header"]["msg_type"])
        for message in channels.seen
        if message["parent_header"].get("msg_id") == request
    ]


def printed(channels: Channels, request: str, name: str = "stdout") -> str:
    return "".join(
        message["content"]["text"]
        for message in channels.seen
        if message["header"]["msg_type"] == "stream"
        and message["content"]["name"] == name
        and message["parent_header"].get("msg_id") == request
    )


@pytest.fixture
def keep(kernelspec: WriteKernelspec) -> None:
    """The kernelspec of that name."""
    kernelspec("keep", on_server_exit="keep")


@pytest.mark.usefixtures("keep")
def test_a_cell_that_ends_meanwhile_has_ended_for_its_page(runtime_dir: Path, folder: Path) -> None:
    """Its prints, its end and its reply come to its page once; not again, nor to another page."""
    code = "for n in range(5): print(n, flush=True)\nn"
    kernel_id, page, request = cut_off(runtime_dir, folder, code)
    before = state(kernel_id)
    assert before["execution_state"] == "busy"
    (folder / "begin").touch()
    eventually(lambda: state(kernel_id)["execution_state"] == "idle", "the cell to end")
    assert state(kernel_id)["last_activity"] > before["last_activity"]

    with jupyter_server(runtime_dir, folder) as server:
        assert server.model(kernel_id)["execution_state"] == "idle"
        with server.channels(kernel_id, page=page) as channels:
            assert channels.until("execute_reply", request)["status"] == "ok"
            channels.run("pass")
            assert printed(channels, request) == "0\n1\n2\n3\n4\n"
            kinds = of_request(channels, request)
            assert kinds.count(("iopub", "execute_result")) == 1
            assert kinds.count(("iopub", "status")) == 1
            assert kinds.count(("shell", "execute_reply")) == 1
        for later in (page, Session()):
            with server.channels(kernel_id, page=later) as channels:
                assert channels.run("print(n)") == "4\n"
                assert of_request(channels, request) == []
        assert server.delete(kernel_id) == 204


@pytest.mark.usefixtures("keep")
def test_a_question_that_was_asked_meanwhile_is_answered(runtime_dir: Path, folder: Path) -> None:
    """`input()`: the request waits for the page, and its answer goes to the kernel."""
    code = "print('Hello', input('who?'))"
    kernel_id, page, request = cut_off(runtime_dir, folder, code)
    silent = state(kernel_id)["recorded"]
    (folder / "begin").touch()
    eventually(lambda: state(kernel_id)["recorded"] > silent, "the question to be asked")

    with jupyter_server(runtime_dir, folder) as server:
        with server.channels(kernel_id, page=page) as channels:
            assert channels.until("input_request", request)["prompt"] == "who?"
            channels.send("input_reply", "stdin", value="Ada")
            assert channels.until("execute_reply", request)["status"] == "ok"
            channels.run("pass")
            assert printed(channels, request) == "Hello Ada\n"
        assert server.delete(kernel_id) == 204


@pytest.mark.usefixtures("keep")
def test_what_a_thread_prints_until_the_page_is_open_is_in_order(
    runtime_dir: Path, folder: Path
) -> None:
    """What was recorded, what came while the page opened, and what comes then."""
    kernel_id, page, _ = cut_off(runtime_dir, folder, COUNT_IN_A_THREAD)
    (folder / "begin").touch()
    eventually(lambda: state(kernel_id)["recorded"] > 100, "the thread to print")
    with jupyter_server(runtime_dir, folder) as server:
        assert server.model(kernel_id)["execution_state"] == "idle"
        recorded = state(kernel_id)["recorded"]
        with server.channels(kernel_id, page=page) as channels:
            numbers: list[int] = []
            while len(numbers) < recorded + 200:
                message = channels.receive()
                if message["header"]["msg_type"] == "stream":
                    numbers += map(int, message["content"]["text"].split())
            assert numbers == list(range(len(numbers)))
        assert server.delete(kernel_id) == 204


@pytest.mark.usefixtures("keep")
def test_a_kernel_that_is_silent_when_its_page_opens_was_recorded_all_the_same(
    runtime_dir: Path, folder: Path, docker_client: docker.DockerClient
) -> None:
    """It is paused, for longer than the server waits for a kernel."""
    kernel_id, page, request = cut_off(runtime_dir, folder, "print('late')")
    (folder / "begin").touch()
    eventually(lambda: state(kernel_id)["execution_state"] == "idle", "the cell to end")
    seconds = "--MappingKernelManager.kernel_info_timeout=1"
    with jupyter_server(runtime_dir, folder, seconds) as server:
        container = docker_client.containers.get(container_name(kernel_id))
        container.pause()
        with server.channels(kernel_id, page=page) as channels:
            assert channels.until("execute_reply", request)["status"] == "ok"
            assert printed(channels, request) == "late\n"
        container.unpause()
        assert server.delete(kernel_id) == 204


@pytest.mark.usefixtures("keep")
def test_what_there_was_no_room_for_is_counted(runtime_dir: Path, folder: Path) -> None:
    """The page is told how much is missing, before the rest: the latest 16 MiB, at full speed."""
    # One write, one message: print() writes the end of the line for itself.
    code = "import sys\nfor n in range(300): sys.stdout.write(f'{n:100000}\\n'); sys.stdout.flush()"
    kernel_id, page, request = cut_off(runtime_dir, folder, code)
    (folder / "begin").touch()
    eventually(lambda: state(kernel_id)["execution_state"] == "idle", "the cell to end")

    with jupyter_server(runtime_dir, folder) as server:
        with server.channels(kernel_id, page=page) as channels:
            channels.until("execute_reply", request)
            channels.run("pass")
            lines = printed(channels, request).splitlines()
            missing = 300 - len(lines)
            assert [int(line) for line in lines] == list(range(missing, 300))
            assert 16 * 10**6 < sum(map(len, lines)) < 16 * 2**20
            streams = [m["content"] for m in channels.seen if m["header"]["msg_type"] == "stream"]
            notice = f"[{missing} messages from before this were dropped: no server was there]\n"
            assert streams[0] == {"name": "stderr", "text": notice}
            assert printed(channels, request, "stderr") == notice
        assert server.delete(kernel_id) == 204


async def test_only_an_idle_kernel_that_nobody_has_is_ended(
    kernelspec: WriteKernelspec, start_owner: StartOwner, folder: Path
) -> None:
    """`max_idle` is over for all three; one is busy, and one has an owner."""
    kernelspec(on_server_exit="keep", max_idle=1)
    busy = start_owner(code=f"print('begins', flush=True)\n{WAIT}")
    owned, idle = start_owner(), start_owner()
    before = {busy.container.id, owned.container.id}  # an owner may start another one
    busy.die()
    idle.die()
    await until(lambda: idle.container is None)
    # It was the last of them to be left alone.
    assert {busy.container.id, owned.container.id} == before
    (folder / "begin").touch()
    await until(lambda: busy.container is None)
    owned.die()
    await until(lambda: owned.container is None)
