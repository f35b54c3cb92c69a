"""How many containers wait, for what and how long; and what is said when none can."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.errors import ConfigurationError, ImageMissing
from container_provisioner.store import KernelDirectory
from container_provisioner.warm import pool

from .conftest import WriteKernelspec, shared_folder
from .ends import left_below, until
from .pools import OpenPool, Pool, is_warm, warm_pool_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

PER_CONTAINER = 30 * 1024**2  # bytes; less than any waiting kernel uses


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits here for what takes its time in a server."""
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.0)


def names(pool: Pool) -> list[str]:
    return [offer.name for offer in pool.waiting]


async def stays(pool: Pool, expected: list[str], seconds: float = 1.5) -> None:
    """Long enough for another container to be made."""
    await asyncio.sleep(seconds)
    assert names(pool) == expected


# -- how many ----------------------------------------------------------------------------------


async def test_as_many_wait_as_were_asked_for_and_no_more(
    warm_pool: OpenPool, our_containers: Any, docker_client: docker.DockerClient
) -> None:
    opened = await warm_pool(size=2)
    await stays(opened, names(opened))
    assert len(names(opened)) == 2
    assert sorted(our_containers()) == sorted(names(opened))
    for offer in opened.waiting:
        container = docker_client.containers.get(offer.container_id)
        assert container.name == offer.name
        assert container.labels[labels.WARM] == offer.digest
        assert container.labels[labels.KERNEL_ID] == offer.name
        assert PER_CONTAINER < offer.memory < container.attrs["HostConfig"]["Memory"]


async def test_all_that_wait_count_towards_the_limit(warm_pool: OpenPool) -> None:
    """Another keeper's, too: there is one machine."""
    first = await warm_pool(size=3, limits={"limit": 1}, full=False)
    await until(lambda: names(first))
    second = await warm_pool(size=1, name="other", limits={"limit": 1}, full=False)
    await stays(second, names(first))
    await first.close()
    await until(lambda: names(second))


async def test_their_memory_is_bounded(warm_pool: OpenPool) -> None:
    """By what those that wait use, and one more of the largest."""
    limit = 4 * PER_CONTAINER
    opened = await warm_pool(size=5, limits={"memory_limit": limit}, full=False)
    await until(lambda: names(opened))
    await asyncio.sleep(3)
    used = [offer.memory for offer in opened.waiting]
    assert 1 <= len(used) < 5
    assert sum(used) <= limit


async def test_two_keepers_of_the_same_kernels_share_what_waits(warm_pool: OpenPool) -> None:
    first = await warm_pool(size=1)
    of_first = names(first)
    second = await warm_pool(size=1)
    await stays(second, of_first)
    await first.close()
    await until(lambda: names(second) not in ([], of_first))


async def test_what_is_claimed_is_replaced(
    warm_pool: OpenPool, docker_client: docker.DockerClient
) -> None:
    opened = await warm_pool()
    served = set()
    for _ in range(3):
        await opened.full()
        kernel = await opened.start()
        assert is_warm(kernel, docker_client)
        served.add(kernel.container_id)
    assert len(served) == 3


# -- how long ----------------------------------------------------------------------------------


async def test_one_that_has_waited_too_long_is_replaced(
    warm_pool: OpenPool, our_containers: Any
) -> None:
    opened = await warm_pool(limits={"max_age": 2.0})
    (old,) = opened.waiting
    await until(lambda: names(opened) not in ([], [old.name]))
    await until(lambda: old.name not in our_containers())
    assert not KernelDirectory.of(old.name).exists()


async def test_a_folder_is_learned_and_forgotten_when_nobody_starts_kernels_there(
    warm_pool: OpenPool, our_containers: Any, docker_client: docker.DockerClient
) -> None:
    opened = await warm_pool(limits={"max_age": 8.0})
    lasting = opened.waiting[0].digest
    with shared_folder() as elsewhere:
        first = await opened.start(cwd=str(elsewhere))
        assert not is_warm(first, docker_client)
        opened.keeper.want(*first.provisioner.launched_as)  # as the server's observer does
        await until(lambda: {offer.digest for offer in opened.waiting} - {lasting})
        second = await opened.start(cwd=str(elsewhere))
        assert is_warm(second, docker_client)
        await until(lambda: {offer.digest for offer in opened.waiting} == {lasting})
        kernels = {labels.container_name(k.manager.kernel_id) for k in opened.kernels}
        await until(lambda: set(our_containers()) - kernels == set(names(opened)))


async def test_a_closed_pool_leaves_nothing_but_the_kernels_that_were_claimed(
    warm_pool: OpenPool, our_containers: Any, runtime_dir: Path
) -> None:
    opened = await warm_pool(size=2)
    kernel = await opened.start()
    await opened.close()
    assert our_containers() == [labels.container_name(kernel.manager.kernel_id)]
    assert names(opened) == []
    assert await kernel.run("print(6 * 7)") == "42\n"
    await kernel.restart()
    assert await kernel.run("print(6 * 7)") == "42\n"
    await kernel.manager.shutdown_kernel(now=True)
    assert left_below(runtime_dir) == []


# -- none can wait -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stanza", "error"),
    [
        ({"argv": ["bash", "-m", "ipykernel_launcher"]}, ConfigurationError),
        ({"image": "no-such-image:1", "pull_policy": "never"}, ImageMissing),
    ],
    ids=["cannot-wait", "no-image"],
)
async def test_what_cannot_wait_is_one_warning_and_quiet_retries(
    warm_pool: OpenPool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    our_containers: Any,
    stanza: dict[str, Any],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(pool, "CHECK_SECONDS", 0.2)
    caplog.set_level(logging.DEBUG)
    opened = await warm_pool(full=False, **stanza)
    await until(lambda: len(opened.failures) >= 3)
    assert {type(failure) for failure in opened.failures} == {error}
    said = [r for r in caplog.records if "none for kernelspec contained" in r.getMessage()]
    assert [r.levelno for r in said[:3]] == [logging.WARNING, logging.DEBUG, logging.DEBUG]
    assert str(opened.failures[0]) in said[0].getMessage()
    assert our_containers() == []


async def test_one_that_does_not_get_warm_leaves_nothing_and_is_tried_again(
    warm_pool: OpenPool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    our_containers: Any,
    folder: Path,
    runtime_dir: Path,
) -> None:
    """The kernelspec works for nobody until its variable is right; then somebody looks again."""
    monkeypatch.setattr(pool, "RETRY_SECONDS", (0.1, 0.2))
    caplog.set_level(logging.WARNING)
    (folder / "sitecustomize.py").write_text("raise SystemExit('not yet')")
    spec = {"env": {"PYTHONPATH": str(folder)}}
    opened = await warm_pool(full=False, spec=spec)
    await until(lambda: len(opened.failures) >= 3, 60)
    assert "not yet" in str(opened.failures[0])
    assert len([r for r in caplog.records if "none for kernelspec" in r.getMessage()]) == 1
    (folder / "sitecustomize.py").unlink()
    await until(lambda: names(opened), 60)
    assert our_containers() == names(opened)
    await opened.close()
    assert left_below(runtime_dir) == []


async def test_a_kernelspec_that_does_not_ask_has_no_pool(
    kernelspec: WriteKernelspec, warm_pool: OpenPool
) -> None:
    opened = await warm_pool(size=0, full=False)
    await stays(opened, [], 1.0)
    assert opened.failures == []
    kernelspec("asks-nobody")
    manager = AsyncKernelManager(kernel_name="asks-nobody")
    await manager.start_kernel(cwd=str(opened.folder))
    opened.keeper.want(*manager.provisioner.launched_as)  # type: ignore[union-attr]
    await stays(opened, [], 1.0)
    await manager.shutdown_kernel(now=True)
