"""Whole launches through real kernel managers, on the fake engine.

What a kernel would say cannot be seen here; what is asked of the engine, and what is left, can.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq.asyncio
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import container_process as process_module
from container_provisioner import ownership
from container_provisioner.engine import find
from container_provisioner.engine.find import open_engine
from container_provisioner.store import runtime_folder

from ..conftest import WriteKernelspec
from ..ends import left_below
from ..fake_container import FakeContainer
from ..fake_engine import FakeEngine

IMAGE = "kernel:1"
# What every shutdown begins with does not end it: a kernel takes an interrupt as well.
KERNEL = ["sh", "-c", "trap '' INT; exec sleep 300"]


async def until(condition: Callable[[], object], timeout: float = 30) -> None:
    async def look() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), timeout)


class Launches:
    """Managers for kernels on one fake engine, and an account of what they leave."""

    def __init__(self, fake: FakeEngine, kernelspec: WriteKernelspec, folder: Path) -> None:
        self.fake, self._kernelspec, self.folder = fake, kernelspec, folder
        self.managers: list[AsyncKernelManager] = []

    def manager(
        self,
        *,
        kind: type[AsyncKernelManager] = AsyncKernelManager,
        argv: list[str] = KERNEL,
        kernel_id: str | None = None,
        spec: dict[str, Any] | None = None,
        traits: dict[str, Any] | None = None,
        **stanza: Any,
    ) -> AsyncKernelManager:
        """One that has started nothing yet. Keyword arguments are the stanza's config."""
        name = self._kernelspec(
            f"fake-{len(self.managers)}", argv=argv, spec=spec, **{"image": IMAGE, **stanza}
        )
        manager = kind(
            kernel_name=name,
            kernel_id=kernel_id or str(uuid.uuid4()),
            context=zmq.asyncio.Context.instance(),
            log=logging.getLogger("jupyter"),
            **traits or {},
        )
        self.managers.append(manager)
        return manager

    async def start(self, **kwargs: Any) -> AsyncKernelManager:
        manager = self.manager(**kwargs)
        await manager.start_kernel(cwd=str(self.folder))
        return manager

    def container(self, manager: AsyncKernelManager) -> FakeContainer:
        return self.fake.named(f"jupyter-kernel-{manager.kernel_id}")

    def left(self) -> list[str]:
        """Containers, directories and records that exist."""
        names = [container.spec.name for container in self.fake.containers.values()]
        return names + sorted(map(str, left_below(runtime_folder())))


async def no_guard(do: str, **facts: Any) -> dict[str, Any]:
    return {}


@pytest.fixture
async def launches(
    kernelspec: WriteKernelspec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Launches]:
    fake = FakeEngine(url=f"unix:///fake-{uuid.uuid4().hex}.sock")
    fake.add_image(IMAGE, user="1000:1000")
    opens = functools.partial(open_engine, adapter=lambda url: fake)
    monkeypatch.setattr(process_module, "open_engine", opens)
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", fake.url)
    # It would look for an engine at the fake's URL.
    monkeypatch.setattr(ownership, "ask_guard", no_guard)
    launches = Launches(fake, kernelspec, folder)
    yield launches
    fake.before.clear()
    fake.after.clear()
    for manager in launches.managers:
        if manager.provisioner is not None:
            await manager.shutdown_kernel(now=True)
    left = launches.left()
    fake.dispose()
    if fake.url in find._engines:
        await asyncio.to_thread(find._engines.pop(fake.url).close)
    assert left == []
