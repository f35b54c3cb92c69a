"""A real Jupyter Server in a process of its own, asked as a front end asks it."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from place import Place
from running import process
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

V1 = "v1.kernel.websocket.jupyter.org"
TIMEOUT = 120.0  # seconds for anything; more is an error, not a figure


@dataclass
class Server:
    url: str
    token: str
    pid: int

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    async def call(self, method: str, resource: str, **body: Any) -> Any:
        reply = await AsyncHTTPClient().fetch(
            f"{self.url}api/{resource}",
            method=method,
            headers=self._headers,
            body=json.dumps(body) if method == "POST" else None,
            request_timeout=TIMEOUT,
        )
        return json.loads(reply.body) if reply.body else None

    async def start(self, kernel_name: str) -> str:
        """`POST /api/kernels`; the kernel's id."""
        return str((await self.call("POST", "kernels", name=kernel_name))["id"])

    async def delete(self, kernel_id: str) -> None:
        await self.call("DELETE", f"kernels/{kernel_id}")

    @asynccontextmanager
    async def channels(self, kernel_id: str) -> AsyncIterator[Channels]:
        """The kernel's websocket, with the protocol that JupyterLab speaks."""
        session = Session(username="bench", session=uuid.uuid4().hex)
        address = self.url.replace("http", "ws", 1)
        address += f"api/kernels/{kernel_id}/channels?session_id={session.session}"
        request = HTTPRequest(address, headers=self._headers, connect_timeout=TIMEOUT)
        socket = await websocket_connect(request, subprotocols=[V1])
        try:
            yield Channels(socket, session)
        finally:
            socket.close()


@dataclass
class Channels:
    socket: WebSocketClientConnection
    session: Session

    async def ask(self, kind: str, **content: Any) -> None:
        """Send a request on the shell channel and wait for its reply."""
        message = self.session.msg(kind, content)
        sent = serialize_msg_to_ws_v1(message, "shell", self.session.pack)
        await self.socket.write_message(b"".join(sent) if isinstance(sent, list) else sent, True)
        wanted = message["header"]["msg_id"]
        while True:
            received = await asyncio.wait_for(self.socket.read_message(), TIMEOUT)
            if not isinstance(received, bytes):
                raise RuntimeError(f"The websocket was closed: {self.socket.close_reason}")
            channel, parts = deserialize_msg_from_ws_v1(received)
            if channel == "shell" and json.loads(parts[1]).get("msg_id") == wanted:
                return


@asynccontextmanager
async def jupyter_server(place: Place, *options: str) -> AsyncIterator[Server]:
    """Listening; at the end it is asked to end, as a service manager does, with its kernels."""
    token = secrets.token_hex(16)
    log = place.directory / "server.log"
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--ServerApp.port=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={place.workspace}"]
    with log.open("ab") as written:
        async with process(
            *command,
            *options,
            cwd=place.workspace,
            stdout=written,
            stderr=written,
            grace=TIMEOUT,
        ) as running:
            address = place.runtime / f"jpserver-{running.pid}.json"
            try:
                yield await asyncio.wait_for(_listening(address, token, running.pid), TIMEOUT)
            except (asyncio.TimeoutError, OSError, HTTPError, RuntimeError) as exc:
                words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise SystemExit(f"{words}\n\nThe Jupyter Server failed: {exc!r}") from exc


async def _listening(address: Path, token: str, pid: int) -> Server:
    while True:
        try:
            server = Server(json.loads(address.read_text())["url"], token, pid)
            await server.call("GET", "status")
            return server
        except (OSError, ValueError, HTTPError):  # not there yet, half written, not listening
            await asyncio.sleep(0.05)
