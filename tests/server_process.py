"""A real Jupyter Server in a process of its own, and a front end's two ways to talk to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests
import websocket
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)

TOKEN = "token-of-the-tests"
TIMEOUT = 40.0  # seconds; a bound for what hangs, not an expectation
SILENCE = 25.0  # less than between two pings of the server's, which `recv` answers by itself

# What else is installed and would be loaded, half a second at each start.
OTHERS = ("jupyterlab", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim")

LEGACY, V1 = "", "v1.kernel.websocket.jupyter.org"

T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, timeout: float = TIMEOUT) -> T:
    """The first answer of `look` that is not None or False."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)
    return found


def free_port() -> int:
    """For what cannot be asked which one it took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server. `log_file` is what an operator would read."""

    process: subprocess.Popen[bytes]
    address: Path  # the file in which the server says where it listens
    root: Path
    log_file: Path

    @property
    def url(self) -> str:
        return str(json.loads(self.address.read_text())["url"])

    @property
    def answers(self) -> bool:
        try:
            return self.call("GET", "status").ok
        except (OSError, ValueError, requests.ConnectionError):  # or the file is half written
            return False

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def lines(self, words: str, kernel_id: str = "") -> list[str]:
        """Lines of the log with these words, about this kernel."""
        return [line for line in self.log.splitlines() if words in line and kernel_id in line]

    def call(self, method: str, resource: str, /, **body: Any) -> requests.Response:
        return requests.request(
            method,
            f"{self.url}api/{resource}",
            headers={"Authorization": f"token {TOKEN}"},
            json=body or None,
            timeout=TIMEOUT,
        )

    def start(self, name: str, **body: Any) -> str:
        """Start a kernel; its id."""
        reply = self.call("POST", "kernels", name=name, **body)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])

    def model(self, kernel_id: str) -> dict[str, Any]:
        reply = self.call("GET", f"kernels/{kernel_id}")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def delete(self, kernel_id: str) -> int:
        return self.call("DELETE", f"kernels/{kernel_id}").status_code

    def clear_away(self, kernel_id: str) -> None:
        """Delete a kernel in any state. During a restart jupyter_client answers with an error."""
        eventually(lambda: self.delete(kernel_id) in (204, 404), f"{kernel_id} to be deleted")

    @contextlib.contextmanager
    def starting(self) -> Iterator[Callable[..., str]]:
        """Start kernels, as `start` does; in the end they are deleted, if they have not been."""
        started: list[str] = []

        def start(name: str, path: str = "", **body: object) -> str:
            started.append(self.start(name, path=path, **body))
            return started[-1]

        yield start
        for kernel_id in started:
            self.clear_away(kernel_id)

    @contextlib.contextmanager
    def channels(
        self, kernel_id: str, subprotocol: str = V1, page: Session | None = None
    ) -> Iterator[Channels]:
        """The kernel's websocket, as a notebook opens it; `page` has been open before.

        A page numbers its requests on: none has the id of another.
        """
        own = page or Session(username="tests", session=uuid.uuid4().hex)
        socket = websocket.create_connection(
            f"{self.url.replace('http', 'ws', 1)}api/kernels/{kernel_id}/channels"
            f"?session_id={own.session}",
            header=[f"Authorization: token {TOKEN}"],
            subprotocols=[subprotocol] if subprotocol else None,
            timeout=SILENCE,
        )
        try:
            yield Channels(socket, own, socket.getsubprotocol() or LEGACY)
        finally:
            socket.close()

    def stop(self, signum: int = signal.SIGTERM, timeout: float = TIMEOUT) -> int:
        """As an operator or a service manager does; the exit code."""
        self.process.send_signal(signum)
        return self.process.wait(timeout=timeout)


@dataclass
class Channels:
    """All channels of one kernel in one websocket."""

    socket: websocket.WebSocket
    session: Session
    subprotocol: str
    seen: list[dict[str, Any]] = field(default_factory=list)

    def send(self, kind: str, channel: str = "shell", **content: Any) -> str:
        """Send a message; its id."""
        message = self.session.msg(kind, content)
        if self.subprotocol == V1:
            self.socket.send_binary(serialize_msg_to_ws_v1(message, channel, self.session.pack))
        else:
            self.socket.send(json.dumps({**message, "channel": channel}, default=str))
        return str(message["header"]["msg_id"])

    def execute(self, code: str) -> str:
        """Send code to be run, without waiting; the message's id."""
        # Else a kernel that is short of time may skip what comes next, when this fails.
        content = {"silent": False, "store_history": True, "stop_on_error": False}
        return self.send("execute_request", code=code, **content)

    def receive(self) -> dict[str, Any]:
        """The next message; `header`, `parent_header`, `content` and `channel` of it."""
        received = self.socket.recv()
        if self.subprotocol == V1:
            channel, parts = deserialize_msg_from_ws_v1(received)
            names = ("header", "parent_header", "metadata", "content")
            message = dict(zip(names, (json.loads(part) for part in parts[:4]), strict=True))
            message["channel"] = channel
        else:
            message = json.loads(received)
        self.seen.append(message)
        return message

    def until(self, kind: str, parent: str = "", **wanted: Any) -> dict[str, Any]:
        """The content of the next message of that kind with these fields."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            message = self.receive()
            is_reply = not parent or message["parent_header"].get("msg_id") == parent
            content = dict(message["content"])
            if (
                message["header"]["msg_type"] == kind
                and is_reply
                and wanted.items() <= content.items()
            ):
                return content
        raise AssertionError(f"no {kind} {wanted} in {self.seen}")

    def run(self, code: str) -> str:
        """Execute; what it printed, and the names of its errors."""
        request = self.execute(code)
        parts = []
        while True:
            message = self.receive()
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                parts.append(content["text"])
            elif kind == "error":
                parts.append(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                return "".join(parts)


@contextlib.contextmanager
def jupyter_server(
    runtime_dir: Path,
    folder: Path,
    *options: str,
    module: str = "jupyter_server",
    port: int = 0,
    python: str = sys.executable,
    **environment: str,
) -> Iterator[Server]:
    """Start a server in `folder`; at the end it is terminated, if it still runs.

    Ours is the only extension of `jupyter_server`, and is found as it always is.
    Port 0 is any free one; another port has to be free. `python` is that of another environment.
    """
    log_file = runtime_dir.parent / "server.log"
    if module == "jupyter_server":
        options += tuple(f"--ServerApp.jpserver_extensions={name}=False" for name in OTHERS)
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [
                *(python, "-m", module, "--allow-root"),
                *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
                f"--IdentityProvider.token={TOKEN}",
                f"--ServerApp.root_dir={folder}",
                *options,
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    try:
        address = runtime_dir / f"jpserver-{process.pid}.json"  # written just before it listens
        server = Server(process, address, folder, log_file)
        eventually(lambda: server.answers or process.poll() is not None, "the server to listen")
        assert process.poll() is None, server.log
        yield server
    finally:
        # A second time, because jupyter_server 2.21 trips over a start that failed, however long
        # ago, and then forgets to stop (MultiKernelManager keeps it in _pending_kernels).
        for grace in (4.0, TIMEOUT):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.terminate()
                process.wait(timeout=grace)
        if process.poll() is None:
            process.kill()
            process.wait()
