"""The engine as somebody beside us sees it: its version, its containers, who asks it what."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

WARM = "io.github.container-provisioner.warm"  # the label of every container made for a pool
URL = "CONTAINER_PROVISIONER_ENGINE_URL"
REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) (?:/v[\d.]+)?/([^ ?]+)[^ ]* HTTP/1\.1\r\n")
NAMES = re.compile(r"/(?:[0-9a-f]{12,}|jupyter-[^/]+)")


def client() -> Any:
    """The SDK. Raises `docker.errors.DockerException`."""
    import docker

    url = os.environ.get(URL)
    return docker.DockerClient(base_url=url) if url else docker.from_env(timeout=30)


def version() -> str:
    try:
        from docker.errors import DockerException
    except ImportError:
        return "no engine"
    try:
        told = client().version()
    except (DockerException, OSError):
        return "no engine"
    names = [part.get("Name", "") for part in told.get("Components", [])]
    name = "Podman" if any("Podman" in part for part in names) else "Docker"
    return f"{name} {told.get('Version', '')}".strip()


async def look(container: str) -> tuple[str, dict[str, str]]:
    """The id and labels of a container by its name; nothing when there is none."""
    from docker.errors import NotFound

    def ask() -> tuple[str, dict[str, str]]:
        try:
            found = client().containers.get(container)
        except NotFound:
            return "", {}
        return found.id, found.labels

    return await asyncio.to_thread(ask)


def remove_kept(runtime: Path) -> None:
    """All containers of the Jupyter with this runtime directory, those that nobody attends too."""
    from docker.errors import APIError

    place = runtime / "container-provisioner" / "place"
    if place.exists():
        label = f"io.github.container-provisioner.place={place.read_text()}"
        for container in client().containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        ):
            with suppress(APIError):  # the guard is at it
                container.remove(force=True)


def socket_path() -> str:
    """Where the engine listens on this machine."""
    url = os.environ.get(URL) or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return url.removeprefix("unix://")


@asynccontextmanager
async def counting(directory: Path) -> AsyncIterator[Counter[str]]:
    """Whoever is told of the engine while this is open goes through here and is counted.

    Between them is a unix socket that passes on every byte: the server, the guard and the pool's
    keeper are all seen, and none of their code is touched. The answer is what was asked how often.
    """
    requests: Counter[str] = Counter()
    tasks: set[asyncio.Task[Any]] = set()

    async def copy(
        source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        with suppress(ConnectionError):
            while block := await source.read(1 << 16):
                # A head comes in one piece: that is how http.client writes it.
                for method, resource in REQUEST.findall(block) if counted else ():
                    name = NAMES.sub("/ID", resource.decode())
                    requests[f"{method.decode()} {name}"] += 1
                target.write(block)
                await target.drain()
            target.write_eof()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there, back = await asyncio.open_unix_connection(real)
        try:
            await asyncio.gather(
                copy(reader, back, counted=True), copy(there, writer, counted=False)
            )
        finally:
            back.close()
            writer.close()
            tasks.discard(task)

    real, before = socket_path(), os.environ.get(URL)
    path = directory / "engine.sock"
    server = await asyncio.start_unix_server(connected, path)
    os.environ[URL] = f"unix://{path}"
    try:
        yield requests
    finally:
        os.environ.pop(URL)
        if before is not None:
            os.environ[URL] = before
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
