"""What a pool asks of the engine, and how it takes an engine that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner.errors import EngineUnavailable
from container_provisioner.store import KernelDirectory, Offers
from container_provisioner.warm import WarmPool, pool

from ..conftest import IPYKERNEL
from ..fake_container import Gate, failing
from ..keepers import waiting
from .conftest import Launches, until
from .standby import Standby, asked_for, standby_fixture  # noqa: F401 - a fixture


@asynccontextmanager
async def kept(
    launches: Launches, size: int = 1, **stanza: Any
) -> AsyncIterator[tuple[WarmPool, AsyncKernelManager]]:
    """A pool, which is full yet or not, and a manager for a kernel of that kind."""
    manager = launches.manager(argv=IPYKERNEL, warm_pool_size=size, **stanza)
    keeper = WarmPool(logging.getLogger("jupyter"), limit=8, memory_limit=2**30, max_age=600)
    keeper.want(*await asked_for(launches, manager), lasting=True)
    try:
        yield keeper, manager
    finally:
        await keeper.close()


async def test_containers_are_made_one_at_a_time(launches: Launches, standby: Standby):
    gate = launches.fake.after["create"] = Gate()
    async with kept(launches, size=3):
        await asyncio.to_thread(gate.reached.wait, 30)
        await asyncio.sleep(0.3)
        assert launches.fake.calls["create"] == 1
        gate.release()
        await until(lambda: len(waiting()) == 3)
        assert launches.fake.calls["create"] == 3
    assert launches.left() == []


async def test_a_full_pool_asks_the_engine_only_whether_the_image_is_still_the_same(
    launches: Launches, standby: Standby, monkeypatch: pytest.MonkeyPatch
):
    async with kept(launches):
        await until(waiting)
        await asyncio.sleep(0.2)  # the watcher begins
        launches.fake.calls.clear()
        await asyncio.sleep(0.5)
        assert launches.fake.calls == {}
        monkeypatch.setattr(pool, "CHECK_SECONDS", 0.1)
        await asyncio.sleep(0.5)
        assert set(launches.fake.calls) == {"inspect_image"}


async def test_no_other_is_made_before_the_claimed_kernel_has_answered(
    launches: Launches, standby: Standby, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 1.5)
    async with kept(launches) as (_, manager):
        await until(waiting)
        await manager.start_kernel(cwd=str(launches.folder))
        await asyncio.sleep(0.5)
        assert launches.fake.calls["create"] == 1
        await until(waiting)
        assert launches.fake.calls["create"] == 2


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not-seen"])
async def test_a_kernel_that_was_claimed_and_has_ended_already_is_not_the_pools(
    launches: Launches,
    standby: Standby,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    seen: bool,
):
    """However soon it ends: before the keeper, another process, has seen the claim or after."""
    async with kept(launches) as (keeper, manager):
        await until(waiting)
        (member,) = keeper._members
        if not seen:
            monkeypatch.setattr(pool, "LOOK_SECONDS", 3600)
            await asyncio.sleep(0.1)
        await manager.start_kernel(cwd=str(launches.folder))
        if seen:
            await until(lambda: member not in keeper._members)
        await manager.shutdown_kernel(now=True)
        # The claimer here is this process; another one's watch would not replace the keeper's.
        member.container.watch()
        await member.container.follow()
        if not seen:
            monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)
            await keeper._look()
        assert member not in keeper._members
    assert "has ended" not in caplog.text
    assert launches.left() == []


async def test_an_engine_that_does_not_answer_empties_no_pool(
    launches: Launches, standby: Standby, monkeypatch: pytest.MonkeyPatch
):
    """Unknown is not changed."""
    monkeypatch.setattr(pool, "CHECK_SECONDS", 0.05)
    async with kept(launches):
        await until(waiting)
        (name,) = waiting()
        launches.fake.calls.clear()
        launches.fake.before["*"] = failing(EngineUnavailable("read timed out"))
        await until(lambda: launches.fake.calls["inspect_image"] > 6)  # each is tried three times
        assert waiting() == [name]
        del launches.fake.before["*"]
    assert launches.left() == []


async def test_a_pool_that_closes_while_it_makes_a_container_removes_it(
    launches: Launches, standby: Standby
):
    for verb in ("inspect_image", "create", "start", "inspect", "usage"):
        gate = launches.fake.after[verb] = Gate()
        async with kept(launches) as (keeper, _):
            await asyncio.to_thread(gate.reached.wait, 30)
            closing = asyncio.ensure_future(keeper.close())
            await asyncio.sleep(0.05)
            gate.release()
            await closing
        del launches.fake.after[verb]
        assert launches.left() == [], verb


async def test_what_is_wanted_of_a_closed_pool_is_not_made(launches: Launches, standby: Standby):
    """A server ends while it still reads its kernelspecs."""
    manager = launches.manager(argv=IPYKERNEL, warm_pool_size=1)
    wanted = await asked_for(launches, manager)
    keeper = WarmPool(logging.getLogger("jupyter"), limit=8, memory_limit=2**30, max_age=600)
    await keeper.close()
    keeper.want(*wanted, lasting=True)
    await asyncio.sleep(0.3)
    assert launches.fake.calls["create"] == 0
    await keeper.close()


async def test_an_offer_that_somebody_took_and_died_is_cleared_away(
    launches: Launches, standby: Standby, monkeypatch: pytest.MonkeyPatch
):
    """In the very moment: it is nobody's, and the keeper still answers for the container."""
    monkeypatch.setattr(pool, "STUCK_SECONDS", 0.3)
    async with kept(launches):
        await until(waiting)
        (offer,) = Offers().all()
        assert Offers().take(offer)
        await until(lambda: offer.container_id not in launches.fake.containers)
        await until(waiting)
        assert not KernelDirectory.of(offer.name).exists()
    assert launches.left() == []
