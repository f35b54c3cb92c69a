"""What waits dies, hangs, disappears or is out of date: the start goes on, and nothing is left."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from container_provisioner import labels
from container_provisioner.store import KernelDirectory
from container_provisioner.warm import claiming, pool

from .conftest import IMAGE
from .ends import end_of, left_below, until
from .pools import OpenPool, Pool, is_warm, warm_pool_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

Containers = Callable[[], list[str]]
AllIsWell = Callable[[Pool], Awaitable[None]]
FAULTS = {
    "killed": lambda container: container.kill(),
    "removed": lambda container: container.remove(force=True),
    "paused": lambda container: container.pause(),
}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(claiming, "ANSWER_SECONDS", 0.5)


@pytest.fixture
def all_is_well(our_containers: Containers, runtime_dir: Path) -> AllIsWell:
    """The pool fills again; there are its containers and the kernels', and in the end nothing."""

    async def check(opened: Pool) -> None:
        await opened.full()
        kernels = [labels.container_name(kernel.manager.kernel_id) for kernel in opened.kernels]
        waiting = [offer.name for offer in opened.waiting]
        await until(lambda: sorted(our_containers()) == sorted(kernels + waiting))
        await opened.end()
        assert our_containers() == []
        assert left_below(runtime_dir) == []

    return check


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_start_goes_on_when_the_one_that_waits_does_not_work(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    all_is_well: AllIsWell,
    fault: str,
) -> None:
    opened = await warm_pool()
    (offer,) = opened.waiting
    FAULTS[fault](docker_client.containers.get(offer.container_id))
    kernel = await opened.start()
    assert kernel.container_id != offer.container_id
    assert await kernel.run("print(6 * 7)") == "42\n"
    assert not KernelDirectory.of(offer.name).exists()
    await all_is_well(opened)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_start_goes_on_when_the_one_that_it_claims_dies_meanwhile(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    all_is_well: AllIsWell,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """Before it is told whose it is; the name that it has got by then is free again."""
    opened = await warm_pool()
    (offer,) = opened.waiting
    write_session = claiming.write_session

    def breaks(prepared: Any) -> None:
        FAULTS[fault](docker_client.containers.get(offer.container_id))
        write_session(prepared)

    monkeypatch.setattr(claiming, "write_session", breaks)
    kernel = await opened.start()
    assert not is_warm(kernel, docker_client)
    assert await kernel.run("print(6 * 7)") == "42\n"
    assert not KernelDirectory.of(offer.name).exists()
    monkeypatch.undo()
    await all_is_well(opened)


@pytest.mark.parametrize("restart_mode", ["in-place", "recreate"])
async def test_a_kernel_that_dies_before_its_first_reply_can_be_restarted(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    all_is_well: AllIsWell,
    restart_mode: str,
) -> None:
    opened = await warm_pool(restart_mode=restart_mode)
    kernel = await opened.start(ready=False)
    claimed = kernel.container_id
    docker_client.containers.get(claimed).kill()
    assert await end_of(kernel) == 137
    assert "it was ended by SIGKILL" in kernel.provisioner.reason
    await opened.full()
    await kernel.restart()
    assert await kernel.run("print(6 * 7)") == "42\n"
    assert is_warm(kernel, docker_client)
    assert (kernel.container_id == claimed) == (restart_mode == "in-place")
    await all_is_well(opened)


@pytest.mark.parametrize("fault", ["killed", "removed"])
async def test_one_that_dies_while_it_waits_is_replaced(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    all_is_well: AllIsWell,
    fault: str,
) -> None:
    """Though nobody wants it."""
    opened = await warm_pool()
    (offer,) = opened.waiting
    FAULTS[fault](docker_client.containers.get(offer.container_id))
    await until(lambda: [other.name for other in opened.waiting] not in ([], [offer.name]))
    assert not KernelDirectory.of(offer.name).exists()
    await all_is_well(opened)


# -- an image that changes under its name ------------------------------------------------------


@pytest.fixture
def tag(docker_client: docker.DockerClient) -> Iterator[str]:
    """A name of this test's for the kernel image."""
    name = f"container-provisioner-test/changes:{uuid.uuid4().hex[:12]}"
    docker_client.images.get(IMAGE).tag(name)
    yield name
    docker_client.images.remove(name, force=True)


def change(docker_client: docker.DockerClient, tag: str) -> str:
    """Another image gets the name; its id."""
    container = docker_client.containers.create(tag, ["true"], environment={"ANOTHER": "image"})
    try:
        repository, _, version = tag.partition(":")
        return str(container.commit(repository, version).id)
    finally:
        container.remove()


async def test_an_image_that_has_changed_under_its_name_is_never_an_old_kernels(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    tag: str,
) -> None:
    """A launch looks at the image itself: it does not rely on the keeper's having noticed."""
    opened = await warm_pool(image=tag)
    (old,) = opened.waiting
    new_id = change(docker_client, tag)
    kernel = await opened.start()
    assert not is_warm(kernel, docker_client)
    assert docker_client.containers.get(kernel.container_id).attrs["Image"] == new_id
    assert opened.waiting == [old]
    await opened.end()
    assert our_containers() == []


async def test_what_waits_of_the_old_image_makes_way(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    all_is_well: AllIsWell,
    monkeypatch: pytest.MonkeyPatch,
    tag: str,
) -> None:
    monkeypatch.setattr(pool, "CHECK_SECONDS", 0.2)
    opened = await warm_pool(image=tag, size=2)
    old = {offer.name for offer in opened.waiting}
    new_id = change(docker_client, tag)
    await until(lambda: not old & set(our_containers()))
    await opened.full()
    for offer in opened.waiting:
        assert docker_client.containers.get(offer.container_id).attrs["Image"] == new_id
    kernel = await opened.start()
    assert is_warm(kernel, docker_client)
    assert await kernel.run("import os; print(os.environ['ANOTHER'])") == "image\n"
    await all_is_well(opened)


async def test_an_image_that_is_removed_empties_the_pool(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    monkeypatch: pytest.MonkeyPatch,
    tag: str,
) -> None:
    monkeypatch.setattr(pool, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(pool, "RETRY_SECONDS", (0.2, 1.0))
    opened = await warm_pool(image=tag, pull_policy="never")
    docker_client.images.remove(tag, force=True)
    await until(lambda: our_containers() == [])
    docker_client.images.get(IMAGE).tag(tag)
    await until(lambda: opened.waiting)
