"""The parts of the messaging protocol that need more than a cell: each channel, both ways."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import Kernel, StartKernel

pytestmark = pytest.mark.docker

TIMEOUT = 30

IPC, TCP = {}, {"profile": "dev", "transport": "tcp"}


@pytest.fixture(params=["ipc", "ipc-restarted", "tcp", "tcp-restarted"])
async def kernel(request: pytest.FixtureRequest, start_kernel: StartKernel) -> Kernel:
    started = await start_kernel(**(IPC if request.param.startswith("ipc") else TCP))
    if request.param.endswith("restarted"):
        await started.restart()
    return started


async def control(kernel: Kernel, kind: str, **content: Any) -> dict[str, Any]:
    """Send a request on the control channel; the content of its reply."""
    message = kernel.client.session.msg(f"{kind}_request", content)
    kernel.client.control_channel.send(message)
    while True:
        reply = await kernel.client.get_control_msg(timeout=TIMEOUT)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            assert reply["msg_type"] == f"{kind}_reply"
            return dict(reply["content"])


def execute_in(kernel: Kernel, code: str, subshell: str | None = None) -> str:
    """Send code to a subshell, or to the main shell; the message's id."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    message = kernel.client.session.msg("execute_request", content)
    if subshell is not None:
        message["header"]["subshell_id"] = subshell
    kernel.client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


async def statuses(kernel: Kernel, requests: list[str]) -> dict[str, str]:
    """The status of each request's reply, in whatever order they come."""
    found: dict[str, str] = {}
    while found.keys() != set(requests):
        reply = await kernel.client.get_shell_msg(timeout=TIMEOUT)
        found[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    return found


async def published(kernel: Kernel, kind: str, **wanted: Any) -> dict[str, Any]:
    """The content of the next message of that kind, with these fields, on iopub."""
    while True:
        message = await kernel.client.get_iopub_msg(timeout=TIMEOUT)
        content = dict(message["content"])
        if message["msg_type"] == kind and wanted.items() <= content.items():
            return content


async def test_two_subshells_run_while_the_main_shell_is_busy(kernel: Kernel):
    await kernel.run("import threading; together = threading.Barrier(3)")
    first = (await control(kernel, "create_subshell"))["subshell_id"]
    second = (await control(kernel, "create_subshell"))["subshell_id"]
    # Three at once pass the barrier; two, or one after the other, would break it.
    requests = [execute_in(kernel, "together.wait(20)", s) for s in (None, first, second)]
    assert await statuses(kernel, requests) == dict.fromkeys(requests, "ok")

    listed = await control(kernel, "list_subshell")
    assert (listed["status"], set(listed["subshell_id"])) == ("ok", {first, second})
    assert await control(kernel, "delete_subshell", subshell_id=first) == {"status": "ok"}
    assert (await control(kernel, "list_subshell"))["subshell_id"] == [second]


async def test_the_subshell_magic_says_where_it_runs(start_kernel: StartKernel):
    kernel = await start_kernel()
    subshell = (await control(kernel, "create_subshell"))["subshell_id"]
    request = execute_in(kernel, "%subshell", subshell)
    assert f"subshell id: {subshell}" in (await published(kernel, "stream"))["text"]
    assert await statuses(kernel, [request]) == {request: "ok"}


CELL = """
def halve(number):
    half = number / 2
    return half
halve(42)
"""


async def test_a_breakpoint_is_hit_and_continued(kernel: Kernel):
    number = 0

    async def debug(command: str, **arguments: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        reply = await control(
            kernel, "debug", type="request", seq=number, command=command, arguments=arguments
        )
        assert reply["success"], reply
        return dict(reply.get("body") or {})

    await debug("initialize", clientID="test", adapterID="", pathFormat="path")
    await debug("attach")
    source = (await debug("dumpCell", code=CELL))["sourcePath"]
    set_at = await debug(
        "setBreakpoints", source={"path": source}, breakpoints=[{"line": 4}], sourceModified=False
    )
    assert [point["verified"] for point in set_at["breakpoints"]] == [True]
    await debug("configurationDone")
    request = execute_in(kernel, CELL)

    stopped = (await published(kernel, "debug_event", event="stopped"))["body"]
    assert stopped["reason"] == "breakpoint"
    frame = (await debug("stackTrace", threadId=stopped["threadId"]))["stackFrames"][0]
    assert (frame["name"], frame["line"]) == ("halve", 4)
    value = await debug("evaluate", expression="half", frameId=frame["id"], context="watch")
    assert value["result"] == "21.0"
    await debug("continue", threadId=stopped["threadId"])

    assert await statuses(kernel, [request]) == {request: "ok"}
    result = await published(kernel, "execute_result")
    assert result["data"] == {"text/plain": "21.0"}
    await debug("disconnect", restart=False, terminateDebuggee=True)


@pytest.mark.parametrize("stanza", [IPC, TCP], ids=["ipc", "tcp"])
async def test_input_and_getpass_ask_over_stdin(start_kernel: StartKernel, stanza: dict[str, str]):
    kernel = await start_kernel(**stanza)
    asked = []

    def answer(message: dict[str, Any]) -> None:
        asked.append(message["content"])
        kernel.client.input("Ada" if not message["content"]["password"] else "secret")

    code = "from getpass import getpass\ninput('Name? '), getpass('Password? ')"
    assert await kernel.run(code, allow_stdin=True, stdin_hook=answer) == "('Ada', 'secret')"
    assert asked == [
        {"prompt": "Name? ", "password": False},
        {"prompt": "Password? ", "password": True},
    ]
    refused = await kernel.run("input()", allow_stdin=False)
    assert refused.startswith("StdinNotImplementedError")


SLIDER = """
from comm import create_comm
slider = create_comm(target_name="slider", data={"value": 0})

@slider.on_msg
def moved(message):
    slider.send({"seen": message["content"]["data"]["value"] * 2})
"""


async def test_a_widget_opened_by_the_kernel_answers_its_front_end(start_kernel: StartKernel):
    kernel = await start_kernel()
    execute_in(kernel, SLIDER)
    opened = await published(kernel, "comm_open", target_name="slider")
    assert opened["data"] == {"value": 0}
    moved = {"comm_id": opened["comm_id"], "data": {"value": 21}}
    kernel.client.shell_channel.send(kernel.client.session.msg("comm_msg", moved))
    answered = await published(kernel, "comm_msg", comm_id=opened["comm_id"])
    assert answered["data"] == {"seen": 42}


SLIDE = """
import ipywidgets
slider = ipywidgets.IntSlider(value=3)
slider.observe(lambda change: print(change["old"], change["new"]), "value")
slider
"""


@pytest.mark.parametrize("stanza", [IPC, TCP], ids=["ipc", "tcp"])
async def test_a_slider_of_ipywidgets_moves_both_ways(
    start_kernel: StartKernel, stanza: dict[str, str]
):
    """Shown, moved in the page, and moved in the kernel."""
    kernel = await start_kernel(**stanza)
    execute_in(kernel, SLIDE)
    shown = await published(kernel, "execute_result")
    model = shown["data"]["application/vnd.jupyter.widget-view+json"]["model_id"]
    moved = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
    message = kernel.client.session.msg("comm_msg", {"comm_id": model, "data": moved})
    kernel.client.shell_channel.send(message)
    assert (await published(kernel, "stream"))["text"] == "3 7\n"
    execute_in(kernel, "slider.value = 9")
    while (update := await published(kernel, "comm_msg", comm_id=model))["data"] != {
        "method": "update",
        "state": {"value": 9},
        "buffer_paths": [],
    }:
        assert update["data"]["method"] in ("echo_update", "update")


ECHO = """
def opened(comm, message):
    comm.on_msg(lambda message: comm.send(message["content"]["data"], buffers=message["buffers"]))
get_ipython().kernel.comm_manager.register_target("echo", opened)
"""


async def test_a_comm_opened_by_the_front_end_carries_buffers(start_kernel: StartKernel):
    kernel = await start_kernel()
    await kernel.run(ECHO)
    session, shell = kernel.client.session, kernel.client.shell_channel
    shell.send(session.msg("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}}))
    message = session.msg("comm_msg", {"comm_id": "c", "data": {"n": 1}})
    session.send(shell.socket, message, buffers=[b"\0" * 1_000_000])
    while True:
        reply = await kernel.client.get_iopub_msg(timeout=TIMEOUT)
        if reply["msg_type"] == "comm_msg":
            break
    assert reply["content"] == {"comm_id": "c", "data": {"n": 1}}
    assert [bytes(buffer) for buffer in reply["buffers"]] == [b"\0" * 1_000_000]


async def test_a_shutdown_message_alone_ends_the_kernel(start_kernel: StartKernel):
    kernel = await start_kernel()
    assert await control(kernel, "shutdown", restart=False) == {"status": "ok", "restart": False}
    assert await asyncio.wait_for(kernel.provisioner.wait(), TIMEOUT) == 0
