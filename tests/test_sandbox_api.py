"""`container_provisioner.Sandbox`: code in, typed answers out, without a server or a kernelspec."""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import sys
import threading
import time
from pathlib import Path

import docker
import nbformat
import pytest
from traitlets import TraitError

from container_provisioner import AsyncSandbox, Sandbox
from container_provisioner.errors import (
    ConfigurationError,
    CopyFailed,
    ImageMissing,
    KernelNotRunning,
    NoKernelInImage,
)
from container_provisioner.sandbox import (
    CellFailed,
    Died,
    Display,
    Finished,
    Image,
    Raised,
    Stream,
    TimedOut,
    TooMuchOutput,
)

from .conftest import IMAGE, PLAIN_IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("runtime_dir")]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OUTPUTS = f"""
import sys
from IPython.display import Image, display
print("one")
print("two")
print("three", file=sys.stderr)
display(Image(data={PIXEL!r}))
6 * 7
"""
STUBBORN = """
import time
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("not me", flush=True)
"""


def test_what_code_says_raises_and_leaves(caplog: pytest.LogCaptureFixture):
    """One kernel for what does not end it: variables and files are there for the next run."""
    heard: list[object] = []
    with Sandbox(interrupt_timeout=20) as sandbox:
        answer = sandbox.run(OUTPUTS, on_output=heard.append)
        assert isinstance(answer, Finished)
        assert (answer.stdout, answer.stderr, answer.text) == ("one\ntwo\n", "three\n", "42")
        assert answer.images == (Image(mime_type="image/png", content=PIXEL),)
        assert [type(each) for each in answer.outputs] == [Stream, Stream, Display]
        assert heard[-1] == answer.result
        assert "".join(each.text for each in heard if isinstance(each, Stream)) == (
            "one\ntwo\nthree\n"
        )

        answer = sandbox.run("x = 1\nx / 0")
        assert isinstance(answer, Raised)
        assert (answer.ename, answer.evalue) == ("ZeroDivisionError", "division by zero")
        assert "x / 0" in answer.traceback[-2].replace("\x1b[39m", "").replace("\x1b[32m", "")
        answer = sandbox.run("input()")
        assert isinstance(answer, Raised)
        assert answer.ename == "StdinNotImplementedError"

        answer = sandbox.run("print('before')\nimport time\ntime.sleep(600)", timeout=1)
        assert isinstance(answer, TimedOut)
        assert (answer.timeout, answer.killed, answer.stdout) == (1, False, "before\n")

        def stop(_: object) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            sandbox.run("print('a')\ntime.sleep(600)", on_output=stop, timeout=None)
        answer = sandbox.run("x")
        assert isinstance(answer, Finished)
        assert answer.text == "1"

        sandbox.put("data.csv", b"a,b\n1,2\n")
        assert sandbox.run("open('data.csv').read()").text == "'a,b\\n1,2\\n'"  # type: ignore[attr-defined]
        sandbox.put("data.csv", "other")
        sandbox.run("open('/tmp/twice', 'w').write(open('data.csv').read() * 2)")
        assert sandbox.get("/tmp/twice") == b"otherother"
        for path in ("nowhere/data.csv", "/tmp", "/usr/data.csv"):
            with pytest.raises(CopyFailed):
                sandbox.put(path, b"")
        sandbox.run("import os; os.mkfifo('pipe'); os.truncate(os.open('huge', 65), 2**40)")
        for path in ("absent", "/tmp", "pipe", "huge"):
            with pytest.raises(CopyFailed):
                sandbox.get(path)
    assert not sandbox.alive
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


def test_a_folder_goes_in_whole(folder: Path):
    (folder / "data").mkdir()
    (folder / "data" / "a.csv").write_text("1")
    with Sandbox(folder=folder) as sandbox:
        answer = sandbox.run("import os; os.getcwd()")
        assert isinstance(answer, Finished)
        assert answer.text == repr(str(folder))
        with pytest.raises(CopyFailed, match="/home/kernel"):
            sandbox.put("data.csv", b"")  # where it was started, and that is read-only
        sandbox.put("/tmp/data", folder / "data")
        assert sandbox.get("/tmp/data/a.csv") == b"1"


def test_too_much_output_is_cut_and_stopped():
    with Sandbox(output_limit="100k", interrupt_timeout=20) as sandbox:
        answer = sandbox.run("x = 1\nwhile True: print('spam ' * 100)")
        assert isinstance(answer, TooMuchOutput)
        assert (answer.limit, answer.alive) == (102400, True)
        assert len(answer.stdout) <= answer.limit
        # One message, which is not even received, as output and in a reply.
        for code in ("'y' * 10_000_000", "raise ValueError('y' * 10_000_000)"):
            answer = sandbox.run(code)
            assert isinstance(answer, TooMuchOutput)
            assert answer.alive
        answer = sandbox.run("x")
        assert isinstance(answer, Finished)
        assert answer.text == "1"


def test_what_will_not_be_interrupted_is_killed_and_nothing_runs_until_a_restart(
    docker_client: docker.DockerClient,
):
    with Sandbox(interrupt_timeout=1) as sandbox:
        container = sandbox.container_id
        answer = sandbox.run(STUBBORN, timeout=1)
        assert isinstance(answer, TimedOut)
        assert (answer.killed, answer.stdout) == (True, "not me\n")
        with pytest.raises(docker.errors.NotFound):
            docker_client.containers.get(container)
        answer = sandbox.run("print('again')")
        assert isinstance(answer, Died)
        assert (answer.cause, answer.outputs) == ("requested", ())
        assert "restart" in answer.reason
        with pytest.raises(KernelNotRunning, match="restart"):
            sandbox.get("/etc/hostname")
        sandbox.restart()
        answer = sandbox.run("1")
        assert isinstance(answer, Finished)
        # Between two runs, when nobody is asked.
        sandbox.run("import os, threading; threading.Timer(0.2, os._exit, [3]).start()")
        while sandbox.alive:
            time.sleep(0.01)
        answer = sandbox.run("print('again')")
        assert isinstance(answer, Died)
        assert (answer.cause, answer.exit_code) == ("exit", 3)
    with pytest.raises(KernelNotRunning, match="not been started"):
        sandbox.run("1")


def test_an_image_says_which_kernels_it_has():
    with Sandbox(IMAGE, memory_limit="256m") as sandbox:
        answer = sandbox.run("import sys; sys.executable")
        assert isinstance(answer, Finished)
        assert answer.text.strip("'") != sys.executable
        sandbox.put("a", b"1")
        assert sandbox.get("a") == b"1"
    with pytest.raises(ConfigurationError, match="has no kernel 'cobol'"):
        Sandbox(IMAGE, kernel="cobol").start()
    with pytest.raises(NoKernelInImage):
        Sandbox(PLAIN_IMAGE).start()
    with pytest.raises(ImageMissing):
        Sandbox("container-provisioner-test/absent:1", pull_policy="never").start()
    assert not [each for each in threading.enumerate() if each.name == "container-sandbox"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"memroy_limit": "1g"}, TraitError),
        ({"network": "none", "transport": "tcp"}, ConfigurationError),
        ({"output_limit": "much"}, ConfigurationError),
        ({"output_limit": ""}, ConfigurationError),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(
    settings: dict[str, str], error: type[Exception]
):
    with pytest.raises(error):
        Sandbox(**settings)


async def test_the_same_is_awaited_in_an_event_loop():
    async with AsyncSandbox(interrupt_timeout=20) as sandbox:
        heard: list[object] = []
        answer = await sandbox.run("print(1)\n2", on_output=heard.append)
        assert isinstance(answer, Finished)
        assert heard == [Stream(name="stdout", text="1\n"), answer.result]

        # A run that is cancelled is stopped before the next one begins.
        began = asyncio.Event()
        run = asyncio.ensure_future(
            sandbox.run("print(2)\nimport time; time.sleep(600)", on_output=lambda _: began.set())
        )
        await began.wait()
        run.cancel()
        answer = await sandbox.run("3", timeout=30)
        assert isinstance(answer, Finished)
        assert run.cancelled()

        def fail(_: object) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await sandbox.run("print(4)\ntime.sleep(600)", on_output=fail)
        # The blocking one, where an event loop runs.
        with Sandbox() as other:
            answer = other.run("5")
            assert isinstance(answer, Finished)


def test_ctrl_c_stops_the_code_and_a_closed_sandbox_can_be_opened_again():
    sandbox = Sandbox(interrupt_timeout=20)
    for _ in range(2):
        with sandbox:
            with pytest.raises(KeyboardInterrupt):
                sandbox.run(
                    "x = 1\nprint(x)\nimport time; time.sleep(600)",
                    on_output=lambda _: signal.raise_signal(signal.SIGINT),
                )
            answer = sandbox.run("x")
            assert isinstance(answer, Finished)
            assert answer.text == "1"
        assert not [each for each in threading.enumerate() if each.name == "container-sandbox"]


def test_a_notebook_is_run_cell_by_cell(folder: Path):
    notebook = folder / "notebook.ipynb"
    v4 = nbformat.v4
    raises = v4.new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]})
    cells = [v4.new_markdown_cell("x"), v4.new_code_cell("x = 1"), raises]
    with Sandbox() as sandbox:
        notebook.write_text(v4.writes(v4.new_notebook(cells=cells)))
        sandbox.run_notebook(notebook)
        cells.append(v4.new_code_cell("assert x == 2, 'x is 1'"))
        notebook.write_text(v4.writes(v4.new_notebook(cells=cells)))
        with pytest.raises(CellFailed, match=r"Cell 4 of .* raised AssertionError: x is 1") as info:
            sandbox.run_notebook(notebook)
    assert isinstance(info.value.answer, Raised)
