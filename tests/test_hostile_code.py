"""Hostile code in a sandbox: the caller gets a typed answer, and nobody else notices.

Limits are lower than the defaults only to be reached sooner.
"""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_provisioner import Sandbox
from container_provisioner.errors import CopyFailed
from container_provisioner.sandbox import (
    Answer,
    Died,
    Finished,
    Raised,
    TimedOut,
    TooMuchOutput,
)

from .conftest import own_jupyter
from .test_sandbox import CONNECT

pytestmark = [pytest.mark.docker, pytest.mark.alone]


@pytest.fixture(scope="module")
def bystander(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Another kernel, which runs meanwhile."""
    if not request.config.getoption("--run-docker"):
        pytest.skip("needs --run-docker")
    with own_jupyter(), Sandbox() as sandbox:
        sandbox.run("answers = 0")
        yield sandbox


@pytest.fixture
def others_are_fine(bystander: Sandbox) -> Iterator[None]:
    container = bystander.container_id
    yield
    answer = bystander.run("answers += 1; [answers > 0, open('/proc/loadavg').read() != '']")
    assert isinstance(answer, Finished)
    assert answer.text == "[True, True]"
    assert bystander.container_id == container


@pytest.fixture
def sandbox(runtime_dir: Path, others_are_fine: None) -> Iterator[Sandbox]:
    """Is closed while the bystander looks on, and leaves nothing on this machine."""
    with Sandbox(cpu_limit=1, output_limit="1m", interrupt_timeout=1) as sandbox:
        yield sandbox
    # `nothing_left` looks for the container.
    left = {path.name for path in runtime_dir.rglob("*") if "kernel-" in path.name}
    assert left == set()
    kernels = runtime_dir / "container-provisioner" / "kernels"
    assert not kernels.exists() or list(kernels.iterdir()) == []


def check_next(sandbox: Sandbox, answer: Answer) -> None:
    """What `alive` says is so."""
    following = sandbox.run("6 * 7", timeout=30)
    if answer.alive:
        assert isinstance(following, Finished)
        assert following.text == "42"
    else:
        assert isinstance(following, Died)
        assert following.outputs == ()


FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_fork_bomb(sandbox: Sandbox):
    answer = sandbox.run(FORK_BOMB, timeout=1)
    assert isinstance(answer, (TimedOut, Died))
    check_next(sandbox, answer)


MEMORY_BOMB = """
hoard = []
while True:
    hoard.append(bytearray(os.urandom(4096)) * 4096)
"""


def test_memory_bomb(runtime_dir: Path, others_are_fine: None):
    with Sandbox(memory_limit="256m") as sandbox:
        answer = sandbox.run(f"import os{MEMORY_BOMB}")
        assert isinstance(answer, Died)
        assert (answer.cause, answer.exit_code) == ("memory", 137)
        assert "ran out of memory (memory_limit is 256 MiB)" in answer.reason
        check_next(sandbox, answer)


# On what file system each folder is that can be written to.
WRITABLE = """
import os, subprocess
def can_write(folder):
    path = os.path.join(folder, "probe")
    try:
        open(path, "w").close()
        os.unlink(path)
        return True
    except OSError:
        return False

def kind(folder):
    return subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True).stdout.decode()

tops = [top for top in os.listdir("/") if top not in ("proc", "sys", "usr")]
walk = (folder for top in tops for folder, _, _ in os.walk("/" + top))
sorted({kind(folder).strip() for folder in walk if SOCKETS not in folder and can_write(folder)})
"""
FILL = """
while True:
    with open(f"/tmp/{id(object())}{os.urandom(8).hex()}", "wb") as file:
        file.write(os.urandom(2**20) * 64)
"""


def test_disk_fill(runtime_dir: Path, others_are_fine: None):
    with Sandbox(memory_limit="256m") as sandbox:
        # Without root on this side the folder of the sockets is the kernel's to write to.
        sockets = "'none'" if os.getuid() == 0 else "'/run/kernel/sockets'"
        answer = sandbox.run(WRITABLE.replace("SOCKETS", sockets))
        assert isinstance(answer, Finished)
        assert set(ast.literal_eval(answer.text)) - {"mqueue"} == {"tmpfs"}  # both are memory
        answer = sandbox.run(FILL)
        # What is written counts as memory. Which of the two it is, is a question of moments.
        assert isinstance(answer, (Died, Raised))
        assert "memory" in answer.reason if isinstance(answer, Died) else answer.ename == "OSError"
        check_next(sandbox, answer)


@pytest.mark.parametrize(
    "code",
    ["while True: print('spam' * 2500)", "while True: display({'text/plain': '!'}, raw=True)"],
    ids=["text", "displays"],
)
def test_endless_output(sandbox: Sandbox, code: str):
    answer = sandbox.run(code)
    # What the kernel cannot get rid of fills its own memory.
    assert isinstance(answer, (TooMuchOutput, Died))
    assert sum(len(each.text) for each in answer.outputs) <= 1024**2
    check_next(sandbox, answer)


# The memory of a program whose sandbox says more than it wants to hear, in one message and in many.
CALLER = """
import resource
from container_provisioner.sandbox import Sandbox, TooMuchOutput
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB
# By the kernel's own socket, in parts that are each within the limit.
parts = '''
import time, zmq
def send():
    thread.socket.setsockopt(zmq.SNDHWM, 0)
    for _ in range(500):
        thread.socket.send(piece, zmq.SNDMORE, copy=False)
    thread.socket.send(b"")
thread, piece = get_ipython().kernel.iopub_thread, b"z" * 900_000
thread.schedule(send)
time.sleep(600)
'''
with Sandbox(output_limit="1m", interrupt_timeout=30) as sandbox:
    sandbox.run("x = 'y' * 60_000_000")
    before = peak()
    for code in ("x", "for _ in range(60): print(x[:1_000_000], flush=True)", parts):
        answer = sandbox.run(code)
        assert isinstance(answer, TooMuchOutput) and answer.alive, answer
    print(peak() - before)
"""


def test_the_callers_memory(runtime_dir: Path, others_are_fine: None):
    done = subprocess.run(
        [sys.executable, "-c", CALLER], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30


SHOUT = """
import threading
def shout():
    for _ in range(300):
        print("spam" * 2500, flush=True)
    open("done", "w").close()
threading.Timer(0.1, shout).start()
"""
SHOUT_ONCE = """
threading.Timer(0.1, print, ["x" * 10_000_000], {"flush": True}).start()
"""


def test_output_while_nobody_asks(sandbox: Sandbox):
    """It is nobody's, and does not count for the next run."""

    def is_done() -> bool:
        try:
            return sandbox.get("done") == b""
        except CopyFailed:
            return False

    assert isinstance(sandbox.run(SHOUT), Finished)  # three times the limit
    until(is_done)
    answer = sandbox.run("done = True")
    assert isinstance(answer, Finished)

    channels = sandbox._sandbox._channels
    assert channels is not None
    assert isinstance(sandbox.run(SHOUT_ONCE), Finished)  # too large to be received
    until(channels.broken.is_set)
    answer = sandbox.run("done")
    assert isinstance(answer, Finished)
    assert (answer.text, answer.stdout) == ("True", "")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    time.sleep(60)
"""


def test_endless_loop_that_ignores_interrupts(sandbox: Sandbox):
    answer = sandbox.run(STUBBORN, timeout=0.5)
    assert isinstance(answer, TimedOut)
    assert answer.killed
    check_next(sandbox, answer)


# To the client by the kernel's own sockets, signed with its key or not, about the client's request.
FORGE = """
import json, os, threading, zmq
kernel = get_ipython().kernel
session, thread, parent = kernel.session, kernel.iopub_thread, kernel.get_parent("shell")
NONSENSE = [
    ("stream", {"name": "stdout", "text": 5}), ("stream", {"name": ["stdout"], "text": "x"}),
    ("stream", None),
    ("display_data", {"data": ["text/plain"]}), ("display_data", {"data": {"text/plain": {}}}),
    ("display_data", {"data": {"image/png": "!", "image/svg+xml": 3}, "metadata": "x"}),
    ("execute_result", {}), ("error", {"traceback": 3}), ("status", {"execution_state": ["idle"]}),
    (["stream"], {}), (None, {}), ("status", {"execution_state": "restarting"}),
]
failures = []
def attempt(send, *args, **kwargs):
    try:
        send(*args, **kwargs)
    except Exception as exc:
        failures.append(exc)

def forge():
    for kind, content in NONSENSE:
        attempt(session.send, thread.socket, kind, content, parent=parent, ident=b"x")
    deep = b"[" * 20_000 + b"]" * 20_000
    for frames in (
        [b""], [b"x"], [b"<IDS|MSG>"], [b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"],
        [b"<IDS|MSG>", b"", deep, deep, deep, deep], [os.urandom(64) for _ in range(2000)],
    ):
        attempt(thread.socket.send_multipart, frames)
    half = b'{"name": "stdout", "text": "\\\\ud800"}'
    for version in ("4.0", "5.4"):
        header = json.loads(session.pack(session.msg_header("stream"))) | {"version": version}
        for content in (deep, half, b"[]", b"{", b"NaN", b"\\xff", b"1" * 10_000):
            parts = [session.pack(header), session.pack(parent["header"]), b"{}", content]
            attempt(thread.socket.send_multipart, [b"<IDS|MSG>", session.sign(parts), *parts])
    forged.set()
forged = threading.Event()
thread.schedule(forge)
print("done" if forged.wait(30) and not failures else failures)
"""
FORGE_END = """
session.send(thread.socket, "stream", {"name": "stdout", "text": "forged"}, parent=parent)
session.send(
    kernel.shell_stream, "execute_reply", {"status": "error", "ename": 3, "traceback": "x"},
    parent=parent, ident=kernel._get_shell_context_var(kernel._shell_parent_ident),
)
session.send(thread.socket, "status", {"execution_state": "idle"}, parent=parent)
while True: pass
"""
# As a client of its own kernel, with the key from the connection file.
AS_A_CLIENT = """
import json, zmq
from ipykernel.connect import get_connection_file
from jupyter_client.session import Session
info = json.load(open(get_connection_file()))
client = Session(key=info["key"].encode(), signature_scheme=info["signature_scheme"])
control = zmq.Context().socket(zmq.DEALER)
control.connect(f"ipc://{info['ip']}-{info['control_port']}")
client.send(control, "shutdown_request", {"restart": False})
import time; time.sleep(600)
"""


def test_forged_messages(sandbox: Sandbox):
    answer = sandbox.run(FORGE)
    assert isinstance(answer, Finished), answer
    assert answer.stdout.replace("?", "") == "done\n"
    check_next(sandbox, answer)

    # It may say that it has ended. Then it is in the way of what comes next, not of anybody else.
    answer = sandbox.run(
        "kernel = get_ipython().kernel\nparent = kernel.get_parent('shell')" + FORGE_END
    )
    assert isinstance(answer, Raised), answer
    assert (answer.ename, answer.evalue, answer.traceback) == ("error", "", ())
    answer = sandbox.run("1", timeout=0.5)
    assert isinstance(answer, TimedOut)
    check_next(sandbox, answer)


def test_a_kernel_that_is_told_to_end_by_its_own_code(sandbox: Sandbox):
    answer = sandbox.run(AS_A_CLIENT, timeout=1)
    assert isinstance(answer, TimedOut)
    assert answer.killed
    check_next(sandbox, answer)


CONNECT_TO_ALL = CONNECT + "[connect(*each) for each in TARGETS]"


def test_connecting_to_the_host(sandbox: Sandbox):
    name = f"\0container-provisioner-{os.getpid()}"
    with (
        socket.create_server(("0.0.0.0", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        port = server.getsockname()[1]
        abstract.bind(name)
        abstract.listen()
        own = socket.gethostbyname(socket.gethostname())
        targets = [(2, ("127.0.0.1", port)), (2, ("172.17.0.1", port)), (2, (own, port)), (1, name)]
        # The witness: all that is listening is there to be reached.
        for family, address in (targets[0], targets[3]):
            with socket.socket(family) as client:
                client.connect(address)
        answer = sandbox.run(CONNECT_TO_ALL.replace("TARGETS", repr(targets)))
    assert isinstance(answer, Finished)
    assert "connected" not in answer.text
    refused, unreachable = "Connection refused", "Network is unreachable"
    # A host may call itself 127.0.1.1, which in there is the kernel's own loopback.
    last = refused if own.startswith("127.") else unreachable
    assert ast.literal_eval(answer.text) == [refused, unreachable, last, refused]


def test_killing_pid_1(sandbox: Sandbox):
    answer = sandbox.run(
        "import os, signal\nos.kill(1, signal.SIGKILL); os.kill(1, signal.SIGSTOP)"
    )
    assert isinstance(answer, Finished)  # nobody is that in there
    answer = sandbox.run("os.kill(1, signal.SIGTERM)\nimport time; time.sleep(600)")
    assert isinstance(answer, Died)
    assert answer.cause in ("signal", "exit")
    sandbox.restart()
    answer = sandbox.run("import subprocess; subprocess.run(['sh', '-c', 'kill -9 -1'])")
    assert isinstance(answer, Died)
    assert answer.exit_code == 137
    check_next(sandbox, answer)
