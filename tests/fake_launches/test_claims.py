"""A launch takes a container that waits, at the cost of one engine call, or none is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.errors import EngineError, EngineUnavailable, KernelNotAdoptable
from container_provisioner.spec import ContainerSpec
from container_provisioner.store import KernelDirectory, Offer, Offers
from container_provisioner.warm import claiming
from container_provisioner.warm.specification import CLAIM_SOCKET

from ..conftest import IPYKERNEL
from ..fake_container import failing
from .conftest import IMAGE, Launches, until
from .standby import (
    KERNEL_ID,
    Answer,
    Standby,
    ends,
    hangs,
    one_waits,
    says_nonsense,
    says_too_much,
    standby_fixture,  # noqa: F401 - a fixture
)
from .test_undone import CancelledAt

NAME = labels.container_name(KERNEL_ID)


async def start(launches: Launches, manager: AsyncKernelManager) -> None:
    await manager.start_kernel(cwd=str(launches.folder))


def is_warm(launches: Launches) -> bool:
    return labels.WARM in launches.fake.named(NAME).spec.labels


# -- what it costs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stanza", "cold"),
    [
        ({"image": ""}, ["create", "start", "inspect"]),
        ({"image": IMAGE}, ["inspect_image", "create", "start", "inspect"]),
        ({"image": "", "profile": "dev"}, ["create", "upload", "start", "inspect"]),
    ],
    ids=["host", "image", "dev"],
)
async def test_what_a_launch_asks_of_the_engine(
    launches: Launches, standby: Standby, stanza: dict[str, Any], cold: list[str]
):
    """Without a pool, with an empty one, and with a container that waits."""
    async with one_waits(launches, **stanza) as (offer, manager):
        fake = launches.fake
        await until(lambda: fake.calls["list_containers"])  # the watcher's, once per process
        fake.calls.clear()
        await start(launches, manager)
        image = ["inspect_image"] if "inspect_image" in cold else []
        assert fake.calls == Counter([*image, "rename"])
        assert fake.named(NAME).id == offer.container_id
        for size in (0, 1):
            fake.calls.clear()
            await launches.start(argv=IPYKERNEL, warm_pool_size=size, **stanza)
            assert fake.calls == Counter(cold)


async def test_a_launch_that_nothing_waits_for_says_so_in_one_line(
    launches: Launches, standby: Standby, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    for size, lines in ((0, 0), (1, 1)):
        caplog.clear()
        await launches.start(argv=IPYKERNEL, warm_pool_size=size)
        words = [record.levelno for record in caplog.records if "warm" in record.getMessage()]
        assert words == [logging.DEBUG] * lines


# -- what goes wrong ---------------------------------------------------------------------------


def removed(launches: Launches, standby: Standby, offer: Offer) -> None:
    launches.fake.remove(offer.name)


def directory_removed(launches: Launches, standby: Standby, offer: Offer) -> None:
    KernelDirectory.of(offer.name).remove()


def socket_removed(launches: Launches, standby: Standby, offer: Offer) -> None:
    (KernelDirectory.of(offer.name).sockets / CLAIM_SOCKET).unlink()


def nobody_listens(launches: Launches, standby: Standby, offer: Offer) -> None:
    path = KernelDirectory.of(offer.name).sockets / CLAIM_SOCKET
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def does_not_answer(launches: Launches, standby: Standby, offer: Offer, *, how: Answer) -> None:
    standby.answer = how


def renaming_finds_it_gone(launches: Launches, standby: Standby, offer: Offer) -> None:
    launches.fake.before["rename"] = partial(launches.fake.remove, offer.name)


Trouble = Callable[[Launches, Standby, Offer], None]


@pytest.mark.parametrize(
    "trouble",
    [
        removed,
        directory_removed,
        socket_removed,
        nobody_listens,
        partial(does_not_answer, how=hangs),
        partial(does_not_answer, how=ends),
        partial(does_not_answer, how=says_nonsense),
        partial(does_not_answer, how=says_too_much),
        renaming_finds_it_gone,
    ],
    ids=lambda trouble: getattr(trouble, "__name__", "") or trouble.keywords["how"].__name__,
)
async def test_one_that_is_lost_is_discarded_and_the_start_goes_on(
    launches: Launches,
    standby: Standby,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Trouble,
):
    monkeypatch.setattr(claiming, "ANSWER_SECONDS", 0.3)
    async with one_waits(launches) as (offer, manager):
        trouble(launches, standby, offer)
        await start(launches, manager)
        assert not is_warm(launches)
        assert [c.spec.name for c in launches.fake.containers.values()] == [NAME]
        assert not KernelDirectory.of(offer.name).exists()
        assert Offers().all() == []
        await manager.shutdown_kernel(now=True)
    assert launches.left() == []


async def test_the_next_one_is_taken_when_the_first_is_lost(launches: Launches, standby: Standby):
    async with one_waits(launches, warm_pool_size=2) as (offer, manager):
        launches.fake.remove(offer.name)
        await start(launches, manager)
        assert is_warm(launches)
        assert Offers().all() == []


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("exc", [EngineUnavailable("read timed out"), EngineError("no space left")])
async def test_an_engine_that_fails_is_one_clear_error(
    launches: Launches, standby: Standby, moment: str, exc: EngineError
):
    """After: the engine did it, and the answer was lost."""
    async with one_waits(launches) as (_, manager):
        getattr(launches.fake, moment)["rename"] = failing(exc)
        with pytest.raises(type(exc), match=str(exc)) as caught:
            await start(launches, manager)
        assert caught.value.kernel_id == KERNEL_ID
        assert launches.left() == []


@pytest.mark.parametrize("there_before", [True, False], ids=["before", "meanwhile"])
@pytest.mark.parametrize(
    ("kernel_id", "words"),
    [("another", "is taken by container .* not this kernel's"), (KERNEL_ID, "Nothing was changed")],
)
async def test_a_name_that_is_taken_is_refused_and_left_alone(
    launches: Launches, standby: Standby, kernel_id: str, words: str, there_before: bool
):
    """By somebody else's container, or by one that says that it is this kernel and runs."""

    def take_name() -> None:
        with contextlib.suppress(EngineError):
            spec = ContainerSpec(name=NAME, image=IMAGE, argv=("sleep", "300"))
            fake.start(fake.create(replace(spec, labels={labels.KERNEL_ID: kernel_id})))

    fake = launches.fake
    async with one_waits(launches) as (_, manager):
        del fake.before["start"]
        if there_before:
            take_name()
        else:
            fake.before["rename"] = take_name
        with pytest.raises((EngineError, KernelNotAdoptable), match=words):
            await start(launches, manager)
        assert fake.named(NAME).runs
        assert labels.WARM not in fake.named(NAME).spec.labels
        fake.remove(NAME)
    assert launches.left() == []


async def test_an_ended_container_of_the_kernel_makes_way(launches: Launches, standby: Standby):
    fake = launches.fake
    async with one_waits(launches) as (offer, manager):
        spec = ContainerSpec(name=NAME, image=IMAGE, argv=("true",))
        old = fake.create(replace(spec, labels={labels.KERNEL_ID: KERNEL_ID}))
        fake.containers[old].run(lambda _: None)
        await asyncio.to_thread(fake.containers[old].ended.wait, 30)
        await start(launches, manager)
        assert fake.named(NAME).id == offer.container_id
        assert list(fake.containers) == [offer.container_id]


# -- who goes away -----------------------------------------------------------------------------


async def test_a_claim_that_is_cancelled_wherever_it_waits_leaves_nothing(
    launches: Launches, standby: Standby
):
    """F27: the container is nobody's again, so it is removed; it has served."""
    for step in itertools.count(1):
        async with one_waits(launches) as (_, manager):

            async def start_until(step: int = step, manager: Any = manager) -> None:
                await CancelledAt(step, start(launches, manager))

            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.create_task(start_until())
            if manager.has_kernel:
                break
        assert launches.left() == [], f"cancelled at await {step}"
    assert is_warm(launches)
    assert step > 4, "it waits for the image, the name and the answer"
