"""What the guard records of a kernel that nobody listens to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from container_provisioner.guard import recorder as recorder_module
from container_provisioner.guard.recorder import Recorder

from .ends import until

KEY = b"key"


class Speaker:
    """A kernel's iopub and shell channels, as far as a recorder can see them."""

    def __init__(self, folder: Path) -> None:
        self.info: dict[str, Any] = {
            "transport": "ipc",
            "ip": str(folder / "k"),
            "key": KEY,
            "signature_scheme": "hmac-sha256",
            **{f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin"), 1)},
            "control_port": 4,
            "hb_port": 5,
        }
        self.context = zmq.asyncio.Context()
        self.iopub = self.context.socket(zmq.XPUB)
        self.iopub.bind(f"ipc://{folder}/k-2")
        self.shell = self.context.socket(zmq.ROUTER)
        self.shell.router_mandatory = True  # an error when nobody of that name is there
        self.shell.router_handover = True  # as ipykernel's: the last one of a name has it
        self.shell.bind(f"ipc://{folder}/k-1")
        self.session = Session(key=KEY, session="the kernel's")

    def request(self, kind: str = "execute_request", session: str = "a-page") -> dict[str, Any]:
        """One of a front end's."""
        return dict(Session(key=KEY, session=session).msg(kind)["header"])

    async def say(self, kind: str, parent: dict[str, Any] | None = None, **content: Any) -> None:
        message = self.session.msg(kind, content, parent=parent)
        await self.iopub.send_multipart(self.session.serialize(message, ident=b"topic"))

    async def reply(self, parent: dict[str, Any]) -> None:
        message = self.session.msg("execute_reply", {"status": "ok"}, parent=parent)
        name = parent["session"].encode()
        await self.shell.send_multipart(self.session.serialize(message, ident=name))

    def read(self, frames: list[bytes]) -> dict[str, Any]:
        reader = Session(key=KEY)
        return dict(reader.deserialize(reader.feed_identities(frames)[1]))


@pytest.fixture
async def speaker(runtime_dir: Path) -> AsyncIterator[Speaker]:
    speaker = Speaker(runtime_dir)
    yield speaker
    speaker.context.destroy(linger=0)


@pytest.fixture
async def recorder(speaker: Speaker) -> AsyncIterator[Recorder]:
    recorder = Recorder("id", speaker.info, logging.getLogger("guard"))
    await asyncio.wait_for(speaker.iopub.recv(), 10)  # it has subscribed
    yield recorder
    recorder.close()


def texts(speaker: Speaker, messages: list[tuple[str, list[bytes]]]) -> list[str]:
    return [speaker.read(frames)["content"]["text"] for _, frames in messages]


async def test_nothing_is_kept_while_somebody_listens(speaker: Speaker, recorder: Recorder) -> None:
    request = speaker.request()
    await speaker.say("status", request, execution_state="busy")
    await speaker.say("stream", request, name="stdout", text="heard")
    await until(lambda: recorder.execution_state == "busy")
    recorder.unattend()
    await speaker.say("stream", request, name="stdout", text="missed")
    await until(lambda: recorder.recorded == 1)
    messages, dropped = recorder.take()
    assert (texts(speaker, messages), dropped) == (["missed"], 0)
    assert (recorder.recorded, recorder.attended) == (0, True)


@pytest.mark.parametrize(
    ("bound", "room"), [("MESSAGES", 3), ("BYTES", 4000)], ids=["messages", "bytes"]
)
async def test_the_oldest_are_dropped_and_counted(
    speaker: Speaker,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    room: int,
) -> None:
    monkeypatch.setattr(recorder_module, bound, room)
    recorder.unattend()
    request = speaker.request()
    for number in range(10):
        await speaker.say("stream", request, name="stdout", text=f"{number}".ljust(700))
    await until(lambda: recorder.recorded + recorder.dropped == 10)
    messages, dropped = recorder.take()
    assert len(messages) <= 3
    assert dropped == 10 - len(messages)
    kept = [int(text) for text in texts(speaker, messages)]
    assert kept == list(range(10))[-len(kept) :]
    assert sum(len(frame) for _, frames in messages for frame in frames) <= recorder_module.BYTES


async def test_the_reply_to_a_page_that_is_away_is_kept_for_it(
    speaker: Speaker, recorder: Recorder
) -> None:
    request = speaker.request()
    await speaker.say("status", request, execution_state="busy")
    await until(lambda: recorder.execution_state == "busy")
    recorder.unattend()

    async def try_reply() -> bool:
        try:
            await speaker.reply(request)
        except zmq.ZMQError:
            return False  # the recorder has not taken the page's name yet
        return True

    while not await try_reply():
        await asyncio.sleep(0.01)
    await until(lambda: recorder.recorded == 1)
    ((channel, frames),) = recorder.take()[0]
    assert channel == "shell"
    assert speaker.read(frames)["parent_header"]["session"] == "a-page"


async def test_it_gives_a_pages_name_back(speaker: Speaker, recorder: Recorder) -> None:
    request = speaker.request()
    await speaker.say("status", request, execution_state="busy")
    await until(lambda: recorder.execution_state == "busy")
    recorder.unattend()
    recorder.step_aside()
    page = speaker.context.socket(zmq.DEALER)
    page.identity = b"a-page"
    page.connect(f"ipc://{speaker.info['ip']}-1")
    await page.send(b"here")
    await asyncio.wait_for(speaker.shell.recv_multipart(), 10)
    await speaker.reply(request)
    assert await asyncio.wait_for(page.recv_multipart(), 10)
    assert recorder.recorded == 0


async def test_what_nobody_waits_for_is_no_activity(speaker: Speaker, recorder: Recorder) -> None:
    """As jupyter_server counts it: a front end's own questions do not keep a kernel from idling."""
    recorder.unattend()
    before = recorder.last_activity
    asked = speaker.request("kernel_info_request")
    await speaker.say("status", asked, execution_state="busy")
    await speaker.say("stream", speaker.request(), name="stdout", text="news")
    await until(lambda: recorder.recorded == 1)
    assert recorder.execution_state == "idle"
    assert recorder.last_activity > before
    now = time.time()
    assert recorder.idle_for(now + 60) == pytest.approx(60, abs=5)
    await speaker.say("status", speaker.request(), execution_state="busy")
    await until(lambda: recorder.execution_state == "busy")
    assert recorder.idle_for(now + 60) == 0


async def test_what_a_thread_says_is_kept_whatever_was_asked_last(
    speaker: Speaker, recorder: Recorder
) -> None:
    """ipykernel gives it the latest request for its parent."""
    recorder.unattend()
    asked, before = speaker.request("kernel_info_request"), recorder.last_activity
    for kind, content in (
        ("status", {"execution_state": "busy"}),
        ("stream", {"name": "stdout", "text": "a thread's"}),
        ("status", {"execution_state": "idle"}),
    ):
        await speaker.say(kind, asked, **content)
    await speaker.say("stream", speaker.request(), name="stdout", text="a cell's")
    await until(lambda: recorder.last_activity > before)
    assert texts(speaker, recorder.take()[0]) == ["a thread's", "a cell's"]


async def test_nonsense_on_the_channel_does_no_harm(speaker: Speaker, recorder: Recorder) -> None:
    """A kernel is not to be trusted."""
    recorder.unattend()
    for frames in ([b""], [b"<IDS|MSG>"], [b"t", b"<IDS|MSG>", b"s", b"[]", b"{}", b"{}", b"1"]):
        await speaker.iopub.send_multipart(frames)
    await speaker.say("stream", speaker.request(), name="stdout", text="sense")
    await until(lambda: recorder.recorded == 1)
    assert texts(speaker, recorder.take()[0]) == ["sense"]


async def test_a_kernel_that_speaks_elsewhere_is_followed(
    speaker: Speaker, recorder: Recorder
) -> None:
    """A restart over tcp has new ports; what was recorded before stays."""
    recorder.unattend()
    await speaker.say("stream", speaker.request(), name="stdout", text="here")
    await until(lambda: recorder.recorded == 1)
    other = speaker.context.socket(zmq.XPUB)
    other.bind(f"ipc://{speaker.info['ip']}-9")
    recorder.follow({**speaker.info, "iopub_port": 9})
    await asyncio.wait_for(other.recv(), 10)
    speaker.iopub = other
    await speaker.say("stream", speaker.request(), name="stdout", text="there")
    await until(lambda: recorder.recorded == 2)
    assert texts(speaker, recorder.take()[0]) == ["here", "there"]
