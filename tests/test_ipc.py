"""The ipc transport: what counts as a kernel that listens, and who tells that it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_provisioner.transports import ipc
from container_provisioner.transports.ipc import IpcTransport

from .fake_container import make_socket

LONG = 30.0  # seconds


@pytest.fixture(params=["told", "looking"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """By the kernel of the machine, or, where a user has no watches left, by looking."""
    if request.param == "looking":

        def refuse() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("asyncinotify.Inotify", refuse)
    else:
        monkeypatch.setattr(ipc, "DOUBT_SECONDS", LONG)
    return str(request.param)


async def test_a_kernel_listens_when_all_five_sockets_are_there(folder: Path, how: str):
    """F36"""
    endpoint = IpcTransport().host_endpoint(folder)
    paths = endpoint.socket_paths()
    assert paths == [f"{folder}/k-{number}" for number in range(1, 6)]
    listening = asyncio.ensure_future(IpcTransport().until_listening(endpoint))
    for path in paths:
        await asyncio.sleep(0.05)
        assert not listening.done()
        make_socket(Path(path))
    await asyncio.wait_for(listening, LONG / 2)


async def test_sockets_that_are_there_already_are_enough(folder: Path, how: str):
    endpoint = IpcTransport().host_endpoint(folder)
    for path in endpoint.socket_paths():
        make_socket(Path(path))
    await asyncio.wait_for(IpcTransport().until_listening(endpoint), LONG / 2)


async def test_links_and_files_are_no_sockets(folder: Path, how: str):
    """A kernel that puts a link in place must not lead the server to another socket."""
    endpoint = IpcTransport().host_endpoint(folder)
    *paths, last = endpoint.socket_paths()
    for path in paths:
        make_socket(Path(path))
    make_socket(folder / "engine.sock")
    listening = asyncio.ensure_future(IpcTransport().until_listening(endpoint))
    Path(last).symlink_to(f"{folder}/engine.sock")
    await asyncio.sleep(0.1)
    Path(last).unlink()
    Path(last).touch()
    await asyncio.sleep(0.1)
    assert not listening.done()
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
