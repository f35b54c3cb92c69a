"""A process that takes over kernels whose owner has died."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from container_provisioner.store import runtime_folder

from .conftest import Kernel


class Successor:
    """A process that has managers, and none of the kernels yet."""

    def __init__(self) -> None:
        self.managers = AsyncMultiKernelManager(connection_dir=str(runtime_folder()))
        self._adopted: list[Kernel] = []

    async def adopt(self, kernel_id: str, **launch: Any) -> Kernel:
        await self.managers.start_kernel(kernel_id=kernel_id, kernel_name="contained", **launch)
        manager: Any = self.managers.get_kernel(kernel_id)
        client = manager.client()
        client.start_channels()
        self._adopted.append(Kernel(manager, client))
        return self._adopted[-1]

    async def close(self) -> None:
        for kernel in self._adopted:
            kernel.client.stop_channels()
        await self.managers.shutdown_all(now=True)


@pytest.fixture(name="successor")
async def successor_fixture(runtime_dir: Path) -> AsyncIterator[Successor]:
    successor = Successor()
    yield successor
    await successor.close()
