"""Warm pools that the test's own process keeps, and kernels that come from them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.errors import ContainerProvisionerError
from container_provisioner.store import Offer, Offers
from container_provisioner.templates import provisioner_of, template
from container_provisioner.warm import WarmPool

from .conftest import Kernel, WriteKernelspec
from .ends import until

LIMITS = {"limit": 20, "memory_limit": 4 * 1024**3, "max_age": 600.0}


@dataclass
class Pool:
    """A keeper of containers for one kernelspec, in one folder, and the kernels started there."""

    keeper: WarmPool
    kernel_name: str
    folder: Path
    size: int
    failures: list[ContainerProvisionerError] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)

    @property
    def waiting(self) -> list[Offer]:
        """What may be claimed, of every pool of this test."""
        return Offers().all()

    async def full(self) -> None:
        """Wait until as many wait as were asked for. Fails with what the keeper failed with."""
        await until(lambda: self.failures or len(self.waiting) >= self.size, seconds=60)
        if self.failures:
            raise self.failures[0]

    async def start(
        self,
        *,
        ready: bool = True,
        manager: dict[str, Any] | None = None,
        manager_class: type[AsyncKernelManager] = AsyncKernelManager,
        **launch: Any,
    ) -> Kernel:
        """A kernel of its kernelspec, in its folder: warm if one waits."""
        log = logging.getLogger("jupyter")
        km = manager_class(kernel_name=self.kernel_name, log=log, **manager or {})
        await km.start_kernel(**{"cwd": str(self.folder), **launch})
        client = km.client()
        client.start_channels()
        self.kernels.append(Kernel(km, client))
        if ready:
            await self.kernels[-1].ready()
        return self.kernels[-1]

    async def close(self) -> None:
        """What starts from now on starts cold."""
        await self.keeper.close()

    async def end(self) -> None:
        """Nothing is to be left of it."""
        for kernel in self.kernels:
            kernel.client.stop_channels()
            await kernel.manager.shutdown_kernel(now=True)
        await self.close()


OpenPool = Callable[..., Awaitable[Pool]]


@pytest.fixture(name="warm_pool")
async def warm_pool_fixture(kernelspec: WriteKernelspec, folder: Path) -> AsyncIterator[OpenPool]:
    """Write a kernelspec and keep a pool for it; it is full when it is returned.

    Keyword arguments: ``size``; ``name``, ``argv`` and ``spec`` for the kernelspec; ``cwd`` instead
    of the test's folder; ``limits`` for the keeper (see `LIMITS`); ``full=False`` to return at
    once; all others are the stanza's config.
    """
    opened: list[Pool] = []

    async def open_pool(
        *,
        size: int = 1,
        name: str = "contained",
        cwd: Path | None = None,
        limits: dict[str, Any] | None = None,
        full: bool = True,
        **stanza: Any,
    ) -> Pool:
        kernelspec(name, **{"warm_pool_size": size, **stanza})
        place = cwd or folder
        manager = AsyncKernelManager(kernel_name=name)
        provisioner = provisioner_of(manager)
        assert provisioner is not None
        found = await template(manager, provisioner, cwd=str(place))
        failures: list[ContainerProvisionerError] = []
        log = logging.getLogger("jupyter")
        keeper = WarmPool(log, on_failure=failures.append, **{**LIMITS, **(limits or {})})
        opened.append(Pool(keeper, name, place, size, failures))
        keeper.want(*found, lasting=True)
        if full:
            await opened[-1].full()
        return opened[-1]

    yield open_pool
    for pool in opened:
        await pool.end()


def is_warm(kernel: Kernel, docker_client: docker.DockerClient) -> bool:
    """Whether its container waited in a pool before it was this kernel's."""
    container = docker_client.containers.get(kernel.container_id)
    assert container.name == labels.container_name(kernel.manager.kernel_id)
    return labels.WARM in container.labels
