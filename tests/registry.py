"""A registry in this process, so that pulls are real: the engine asks it over HTTP on 127.0.0.1.

Engines take plain HTTP from 127.0.0.0/8. It serves what a pull asks for ("Pull" in the OCI
distribution specification), as slowly as it is told, stalls half-way, and can want a login. The
fixture `registry` of conftest.py starts one, and removes from the engine what was pulled from it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import docker

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

CHUNK = 16 * 1024


def layer(files: Mapping[str, bytes]) -> bytes:
    """A layer with these files; each is what it is for root, and may be read by everybody."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def noise(size: int = 256 * 1024) -> bytes:
    """A layer that no engine has yet, and that cannot be compressed: `size` bytes and a bit."""
    return layer({f"noise-{uuid.uuid4().hex}": os.urandom(size)})


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Registry:
    """What it serves, and how; the fields may be changed while it runs."""

    host: str  # as it stands in the names of its images
    rate: float = 0.0  # bytes a second, of each layer; 0 is as fast as it can
    denies: bool = False  # as to somebody who has to log in first
    open: threading.Event = field(default_factory=threading.Event)  # cleared: layers stall half-way
    stalled: threading.Event = field(default_factory=threading.Event)  # one does
    dropped: threading.Event = field(default_factory=threading.Event)  # the engine has hung up
    asked: list[str] = field(default_factory=list)  # the paths of all requests
    images: list[str] = field(default_factory=list)  # that it offers
    _content: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def add(self, *layers: bytes, config: Mapping[str, Any] | None = None) -> str:
        """Offer an image of these layers (tars); its name for ``docker pull``.

        `config` is ``Config`` of ``docker inspect``: Cmd, Entrypoint, Env, User…
        """
        repository = f"image-{uuid.uuid4().hex[:12]}"
        description = {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [_digest(tar) for tar in layers]},
            "history": [{"created_by": "a test"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._offer(repository, CONFIG, json.dumps(description).encode()),
            "layers": [
                self._offer(repository, LAYER, gzip.compress(tar, compresslevel=1, mtime=0))
                for tar in layers
            ],
        }
        content = json.dumps(manifest).encode()
        for reference in ("1", _digest(content)):
            self._content[f"/v2/{repository}/manifests/{reference}"] = (MANIFEST, content)
        self.images.append(f"{self.host}/{repository}:1")
        return self.images[-1]

    def _offer(self, repository: str, media_type: str, content: bytes) -> dict[str, Any]:
        digest = _digest(content)
        self._content[f"/v2/{repository}/blobs/{digest}"] = (media_type, content)
        return {"mediaType": media_type, "size": len(content), "digest": digest}

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, media type and content."""
        self.asked.append(path)
        if self.denies:
            error = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
            return 401, "application/json", json.dumps(error).encode()
        if path == "/v2/":
            return 200, "application/json", b"{}"
        if path in self._content:
            return 200, *self._content[path]
        error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return 404, "application/json", json.dumps(error).encode()

    def portions(self, content: bytes, connection: socket.socket) -> Iterator[bytes]:
        """A layer, at the `rate`; the second half when the registry is `open`."""
        for start in range(0, len(content), CHUNK):
            if start >= len(content) // 2:
                self._stall(connection)
            if self.rate:
                time.sleep(CHUNK / self.rate)
            yield content[start : start + CHUNK]

    def _stall(self, connection: socket.socket) -> None:
        while not self.open.wait(0.02):
            self.stalled.set()
            with contextlib.suppress(BlockingIOError):
                if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    raise ConnectionResetError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        status, media_type, content = self.registry.answer(self.path)
        try:
            self.send_response(status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="a test"')
            elif media_type == MANIFEST:
                self.send_header("Docker-Content-Digest", _digest(content))
            self.end_headers()
            if self.command == "HEAD":
                return
            portions: Sequence[bytes] | Iterator[bytes] = [content]
            if media_type == LAYER:
                portions = self.registry.portions(content, self.connection)
            for portion in portions:
                self.wfile.write(portion)
        except ConnectionError:
            self.close_connection = True
            self.registry.dropped.set()

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *args: object) -> None:
        """Not to the terminal; `Registry.asked` has it. (Engines try TLS first: that is a 400.)"""


@contextlib.contextmanager
def serve(client: docker.DockerClient) -> Iterator[Registry]:
    """A registry on a port of its own; at the end its images are removed from the engine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    registry = Registry(f"127.0.0.1:{server.server_port}")
    registry.open.set()
    server.RequestHandlerClass = type("Handler", (_Handler,), {"registry": registry})
    threading.Thread(
        target=server.serve_forever, args=(0.02,), name="registry", daemon=True
    ).start()
    try:
        yield registry
    finally:
        registry.rate = 0
        registry.open.set()
        server.shutdown()
        server.server_close()
        for image in registry.images:
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.images.remove(image, force=True)
