"""The ipc transport: what counts as a kernel that listens."""

from __future__ import annotations

from pathlib import Path

from container_provisioner.transports.ipc import IpcTransport

from .fake_container import make_socket


async def test_a_kernel_listens_when_all_five_sockets_are_there(folder: Path):
    """F36"""
    endpoint = IpcTransport().host_endpoint(folder)
    paths = endpoint.socket_paths()
    assert paths == [f"{folder}/k-{number}" for number in range(1, 6)]
    for path in paths:
        assert not await IpcTransport().listening(endpoint)
        make_socket(Path(path))
    assert await IpcTransport().listening(endpoint)


async def test_links_and_files_are_no_sockets(folder: Path):
    """A kernel that puts a link in place must not lead the server to another socket."""
    endpoint = IpcTransport().host_endpoint(folder)
    *paths, last = endpoint.socket_paths()
    for path in paths:
        make_socket(Path(path))
    make_socket(folder / "engine.sock")
    Path(last).symlink_to(f"{folder}/engine.sock")
    assert not await IpcTransport().listening(endpoint)
    Path(last).unlink()
    Path(last).touch()
    assert not await IpcTransport().listening(endpoint)
