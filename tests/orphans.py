"""Kept kernels that nobody has, and all that could be changed about them."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from container_provisioner import labels
from container_provisioner.connection import from_json
from container_provisioner.store import KernelDirectory, RecordStore, runtime_folder

from .conftest import Kernel, WriteKernelspec
from .ends import until
from .guards import hasty_guard


@dataclass(frozen=True)
class Orphan:
    """A kernel in which ``x`` is 1; its owner has let go of it. `record` is as it was then."""

    kernel_id: str
    container: Any
    record: dict[str, Any]

    @property
    def record_file(self) -> Path:
        return RecordStore().path(self.kernel_id)

    @property
    def connection_file(self) -> Path:
        """Jupyter's, for its clients."""
        return runtime_folder() / f"kernel-{self.kernel_id}.json"

    @property
    def directory(self) -> Path:
        return KernelDirectory.of(self.kernel_id).path

    def write_record(self, record: dict[str, Any]) -> None:
        """As an editor does."""
        self.record_file.write_text(json.dumps(record))

    def facts(self) -> dict[str, Any]:
        """Every file, and every container that says that it is this kernel's."""
        files = [self.record_file, self.connection_file, *sorted(self.directory.rglob("*"))]
        label = f"{labels.KERNEL_ID}={self.kernel_id}"
        containers = self.container.client.containers.list(all=True, filters={"label": label})
        return {
            **{str(path): _content(path) for path in files},
            **{container.id: container.status for container in containers},
        }

    async def say(self, code: str, seconds: float = 30) -> str:
        """Execute, with the connection info that its owner had; what it printed."""
        async with self._client(seconds) as client:
            return await Kernel(None, client).run(code, timeout=seconds)  # type: ignore[arg-type]

    async def send(self, code: str) -> None:
        """Have it begin to execute, and go away."""
        async with self._client() as client:
            client.execute(code)
            while (await client.get_iopub_msg(timeout=30))["msg_type"] != "execute_input":
                pass

    @asynccontextmanager
    async def _client(self, seconds: float = 30) -> AsyncIterator[AsyncKernelClient]:
        client = AsyncKernelClient()
        client.load_connection_info(from_json(self.record["connection_info"]))
        client.start_channels()
        try:
            await Kernel(None, client).ready(seconds)  # type: ignore[arg-type]
            yield client
        finally:
            client.stop_channels()


def _content(path: Path) -> Any:
    if not path.exists():
        return "missing"
    status = path.lstat()
    return (oct(status.st_mode), status.st_uid, path.read_bytes() if path.is_file() else b"")


async def try_to_adopt(kernel_id: str, **launch: Any) -> None:
    """As a server's next process does; all of its objects are gone then."""
    try:
        async with adopted(kernel_id, **launch):
            pass
    finally:
        gc.collect()


@asynccontextmanager
async def adopted(kernel_id: str, **launch: Any) -> AsyncIterator[Any]:
    """The kernel's new manager, which lets go of it at the end."""
    managers = AsyncMultiKernelManager(connection_dir=str(runtime_folder()))
    await managers.start_kernel(kernel_id=kernel_id, kernel_name="contained", **launch)
    try:
        yield managers.get_kernel(kernel_id)
    finally:
        await let_go(managers, kernel_id)


async def let_go(managers: AsyncMultiKernelManager, kernel_id: str) -> None:
    """As a server does at its clean stop."""
    manager: Any = managers.get_kernel(kernel_id)
    await manager.provisioner.detach()
    managers.remove_kernel(kernel_id)
    manager.__del__()  # now, and not some time


@asynccontextmanager
async def orphan_of(folder: Path, docker_client: docker.DockerClient) -> AsyncIterator[Orphan]:
    """One of the kernelspec ``contained``, which has to be kept; removed at the end."""
    managers = AsyncMultiKernelManager(connection_dir=str(runtime_folder()))
    with hasty_guard():
        kernel_id = await managers.start_kernel(kernel_name="contained", cwd=str(folder))
    manager: Any = managers.get_kernel(kernel_id)
    container = docker_client.containers.get(labels.container_name(kernel_id))
    try:
        client = manager.client()
        client.start_channels()
        kernel = Kernel(manager, client)
        await kernel.ready(60)
        await kernel.run("x = 1")
        client.stop_channels()
        await let_go(managers, kernel_id)
        orphan = Orphan(kernel_id, container, RecordStore().read(kernel_id))
        await until(orphan.connection_file.exists)  # the manager took it away; the guard knows it
        yield orphan
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True)


@pytest.fixture(name="orphan")
async def orphan_fixture(
    kernelspec: WriteKernelspec, folder: Path, docker_client: docker.DockerClient
) -> AsyncIterator[Orphan]:
    kernelspec(on_server_exit="keep")
    async with orphan_of(folder, docker_client) as orphan:
        yield orphan
