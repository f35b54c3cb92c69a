"""Who keeps a pool dies, or who claims from it, or both: nothing is left of what was nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from container_provisioner import labels
from container_provisioner.store import leases, place_id
from container_provisioner.warm import pool

from .conftest import WriteKernelspec
from .ends import until
from .keepers import (  # noqa: F401 - two are fixtures
    SETTLED_SECONDS,
    StartKeeper,
    container_of,
    nothing_stays_fixture,
    start_keeper_fixture,
    waiting,
)
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .pools import OpenPool, is_warm, warm_pool_fixture  # noqa: F401 - a fixture
from .server_process import eventually
from .test_half_done import adopted, killed_in

pytestmark = pytest.mark.docker

Containers = Callable[[], list[str]]
NothingStays = Callable[[], None]


# -- the keeper --------------------------------------------------------------------------------


def test_what_waits_ends_with_its_keeper_and_what_was_claimed_goes_on(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    start_owner: StartOwner,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    nothing_stays: NothingStays,
) -> None:
    kernelspec()
    keeper = start_keeper("contained", "--size", "2")
    keeper.full("contained: 2 of 2 warm")
    owner = start_owner()
    claimed = labels.container_name(owner.kernel_id)
    assert labels.WARM in container_of(docker_client, owner.kernel_id).labels
    owners = len(leases())
    keeper.kill()
    eventually(lambda: our_containers() == [claimed], "what waits to go", SETTLED_SECONDS)
    assert waiting() == []
    eventually(lambda: len(leases()) < owners, "the guard to be done with it", SETTLED_SECONDS)
    assert our_containers() == [claimed]
    assert container_of(docker_client, owner.kernel_id).status == "running"
    owner.die()
    nothing_stays()


@pytest.mark.parametrize("state", ["created", "running"])
def test_a_keeper_dies_while_a_container_gets_warm(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    docker_client: docker.DockerClient,
    nothing_stays: NothingStays,
    state: str,
) -> None:
    kernelspec()
    keeper = start_keeper("contained")

    def is_made() -> bool:
        label = f"{labels.PLACE}={place_id()}"
        found = docker_client.api.containers(all=True, filters={"label": label})
        return any(item["State"] in (state, "running") for item in found)

    eventually(is_made, "a container")
    keeper.kill()
    assert waiting() == []
    nothing_stays()


def test_a_kept_kernel_that_was_claimed_goes_on_without_its_keeper_and_its_owner(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    start_owner: StartOwner,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    nothing_stays: NothingStays,
) -> None:
    """F2: it was a container of the keeper's once, and its labels still say so."""
    for name in ("contained", "keep"):
        kernelspec(name, on_server_exit="keep")
    keeper = start_keeper("contained")
    keeper.full("contained: 1 of 1 warm")
    owner = start_owner()
    container = container_of(docker_client, owner.kernel_id)
    assert labels.WARM in container.labels
    keeper.kill()
    owner.die()
    eventually(lambda: our_containers() == [container.name], "the others to go", SETTLED_SECONDS)
    eventually(lambda: not leases(), "the guard to be done with both", SETTLED_SECONDS)
    assert container_of(docker_client, owner.kernel_id).status == "running"
    assert adopted(owner.kernel_id) == "1\n"
    nothing_stays()


# -- the claimer -------------------------------------------------------------------------------

STEPS = [
    "store.offers.Offers.take",
    "store.directory.KernelDirectory.mark=starting",
    "store.directory.KernelDirectory.become",
    "engine.calls.Engine.rename",
    "store.directory.KernelDirectory.keep_record",
    "store.directory.KernelDirectory.mark=running",
    "store.records.RecordStore.write",
]


@pytest.mark.parametrize("where", STEPS)
async def test_a_claimer_dies_at_any_step(
    kernelspec: WriteKernelspec,
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    nothing_stays: NothingStays,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """The pool is full again, and other kernels of it are as they were."""
    monkeypatch.setattr(pool, "STUCK_SECONDS", 1.0)
    opened = await warm_pool(name="keep")
    other = await opened.start()
    await opened.full()
    (offer,) = opened.waiting
    kernel_id = await asyncio.to_thread(killed_in, "start", where, folder)
    kernel = labels.container_name(other.manager.kernel_id)
    await until(
        lambda: (
            offer.name not in waiting()
            and container_of(docker_client, kernel_id) is None
            and len(waiting()) == 1
            and sorted(our_containers()) == sorted([kernel, *waiting()])
        )
    )
    assert is_warm(other, docker_client)
    assert await other.run("print(6 * 7)") == "42\n"
    await opened.end()
    await asyncio.to_thread(nothing_stays)


@pytest.mark.parametrize("where", STEPS[-2:])
def test_a_kept_kernel_is_kept_once_it_is_claimed(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    nothing_stays: NothingStays,
    folder: Path,
    where: str,
) -> None:
    """F2: with or without a record; its facts are in its directory, for its labels are older."""
    kernelspec("keep", on_server_exit="keep")
    keeper = start_keeper("keep")
    keeper.full("keep: 1 of 1 warm")
    kernel_id = killed_in("start", where, folder)
    keeper.kill()
    assert adopted(kernel_id) == "None\n"
    nothing_stays()


@pytest.mark.parametrize("where", STEPS[:4])
def test_both_die_at_once(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    nothing_stays: NothingStays,
    folder: Path,
    where: str,
) -> None:
    kernelspec("keep")
    keeper = start_keeper("keep")
    keeper.full("keep: 1 of 1 warm")
    killed_in("start", where, folder)
    keeper.kill()
    nothing_stays()
    assert waiting() == []
