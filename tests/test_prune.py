"""``prune`` on an engine of the tests' own: what goes, and above all what does not."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.diagnosis import Finding, examine_leftovers
from container_provisioner.engine.find import open_engine
from container_provisioner.pruning import prune
from container_provisioner.store import KernelDirectory, Offers, RecordStore, leases

from .command_line import command
from .conftest import WriteKernelspec, own_jupyter, write_kernelspec
from .ends import left_below
from .guards import guards
from .keepers import StartKeeper, start_keeper_fixture  # noqa: F401 - a fixture
from .own_engine import OwnEngine, own_engine
from .owners import Owner, StartOwner, owners
from .server_process import eventually

pytestmark = pytest.mark.docker

LOG = logging.getLogger(__name__)
ENGINE_URL = "CONTAINER_PROVISIONER_ENGINE_URL"
LONG_AGO = time.time() - 3600


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.fixture
def containers(engine: OwnEngine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine.url, version="1.41")
    yield client
    client.close()


@pytest.fixture(autouse=True)
def here(runtime_dir: Path, engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels and commands of the test use that engine."""
    monkeypatch.setenv(ENGINE_URL, engine.url)


@pytest.fixture
def start_owner(folder: Path, containers: docker.DockerClient, here: None) -> Iterator[StartOwner]:
    with owners(folder, containers) as start:
        yield start


def names(client: docker.DockerClient) -> set[str]:
    found = client.containers.list(all=True, ignore_removed=True)
    return {str(container.name) for container in found}


def leave_without_a_guard(runtime_dir: Path, *left: Owner) -> None:
    """They die, and nobody is there to see it."""
    for pid in guards(runtime_dir):
        os.kill(pid, signal.SIGKILL)
    for owner in left:
        owner.die()


def left_behind(engine: OwnEngine) -> tuple[str, str]:
    """What ``doctor`` says about it."""

    async def examine() -> Finding:
        return await examine_leftovers(await open_engine("auto", engine.url))

    found = asyncio.run(examine())
    return found.outcome, found.says


def test_what_nobody_needs_goes_and_all_else_stays(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    runtime_dir: Path,
    containers: docker.DockerClient,
    engine: OwnEngine,
) -> None:
    kernelspec()
    lives, dead = start_owner(), start_owner()
    kernelspec(on_server_exit="keep")
    kept, ended, vanished = start_owner(), start_owner(), start_owner()
    for owner in (ended, vanished):
        owner.end()
    ended.container.kill()
    vanished.container.remove(force=True)
    leave_without_a_guard(runtime_dir, dead, kept)
    folder = runtime_dir / "container-provisioner"
    stray = [
        folder / "0123456789ab",
        folder / ".ab0123456789-0123456789abcdef",
        folder / "records" / ".new-abc",
        folder / "records" / "ffffffffffff.json",
        folder / "records" / "eeeeeeeeeeee.unreadable",
    ]
    for path in stray:
        path.touch() if path.suffix or path.name.startswith(".new") else path.mkdir()
        os.utime(path, (LONG_AGO, LONG_AGO))
    stay = {lives.container.name, kept.container.name}
    everything = names(containers), sorted(map(str, runtime_dir.rglob("*")))

    would = command("prune", "--dry-run", "--json").json["would_remove"]
    gone = {"dead": dead, "ended": ended, "vanished": vanished}
    expected = {owner.kernel_id for owner in gone.values()} | set(map(str, stray))
    assert {each["name"] for each in would} == expected, (would, lives.kernel_id, kept.kernel_id)
    why = {each["name"]: each["why"] for each in would}
    assert why[dead.kernel_id] == "its owner has died"
    assert why[ended.kernel_id] == "it has ended"
    assert why[vanished.kernel_id] == "its container is gone"
    assert names(containers) == everything[0]
    assert left_behind(engine) == ("note", "not needed any more: 3 x kernel, 5 x files")
    assert set(map(str, runtime_dir.rglob("*"))) ^ set(everything[1]) == set()

    done = command("prune")
    assert (done.code, done.stderr) == (0, f"{len(expected)} removed.\n")
    assert {line.split("  ")[0] for line in done.lines} == {"WHAT", "kernel", "files"}
    assert names(containers) == stay
    left = {path.name for path in left_below(runtime_dir)}
    for owner in gone.values():
        assert not any(owner.kernel_id in name for name in left)
        assert not KernelDirectory.of(owner.kernel_id).exists()
    assert not any(path.exists() for path in stray)

    again = command("prune")
    assert (again.stdout, again.stderr) == ("", "Nothing to remove.\n")
    assert left_behind(engine) == ("ok", "nothing")
    states = {each["kernel_id"]: each["state"] for each in command("ps", "--json").json}
    assert states == {lives.kernel_id: "running", kept.kernel_id: "kept"}
    assert {lives.kernel_id, kept.kernel_id} == {
        record["kernel_id"] for record in RecordStore().read_all()[0]
    }
    lives.end()
    kept.container.remove(force=True)
    last = command("prune", "--json").json["removed"]
    assert {each["kind"] for each in last} == {"kernel", "image"}
    assert [each["size"] > 0 for each in last if each["kind"] == "image"] == [True]
    assert containers.images.list(filters={"label": labels.HOST_ENVIRONMENT}) == []
    assert left_below(runtime_dir) == []


async def test_kernels_that_are_being_started_are_not_touched(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    runtime_dir: Path,
    folder: Path,
    engine: OwnEngine,
) -> None:
    """Nor are restarts, shutdowns, and what a launch takes from a pool in that moment."""
    kernelspec()
    keeper = start_keeper("contained", "--size", "2")
    opened = await open_engine("auto", engine.url)
    rounds = 0

    async def prune_all_the_time() -> None:
        nonlocal rounds
        while True:
            done = await prune(opened, LOG)
            assert done.failed == []
            assert {each.kind for each in done.removed} <= {"image", "warm container"}
            rounds += 1

    async def live() -> None:
        manager = AsyncKernelManager(kernel_name="contained")
        await manager.start_kernel(cwd=str(folder))
        try:
            for restarts in (True, False):
                client = manager.client()
                client.start_channels()
                await client.wait_for_ready(timeout=60)
                client.stop_channels()
                if restarts:
                    await manager.restart_kernel(now=True)
        finally:
            await manager.shutdown_kernel(now=True)

    pruning = asyncio.ensure_future(prune_all_the_time())
    try:
        await asyncio.gather(live(), live())
        assert not pruning.done()
    finally:
        pruning.cancel()
        await asyncio.gather(pruning, return_exceptions=True)
    assert rounds > 5
    assert keeper.end(signal.SIGTERM)[0] == 0
    assert left_below(runtime_dir) == []


def test_a_pool_is_emptied_and_its_living_keeper_fills_it_again(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    containers: docker.DockerClient,
    runtime_dir: Path,
) -> None:
    kernelspec()
    keeper = start_keeper("contained", "--size", "2")
    keeper.full("contained: 2 of 2 warm")
    (row, _) = command("ps").lines[1:]
    assert row.split()[1:5] == ["contained", "host", "environment", "waiting"]
    assert command("ps", "-q").lines == []
    before = {offer.name for offer in Offers().all()}
    done = command("prune", "--json").json["removed"]
    warm = [each for each in done if each["kind"] == "warm container"]
    assert {each["name"] for each in warm} == before
    assert {each["why"] for each in warm} == {"it waits in a pool"}
    assert not names(containers) & before
    eventually(lambda: len(Offers().all()) == 2, "the pool to be full again")
    keeper.kill()
    command("prune")
    eventually(lambda: left_below(runtime_dir) == [], "all of it to go")
    assert names(containers) == set()


def test_a_pool_whose_keeper_and_guard_are_dead_is_emptied(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    containers: docker.DockerClient,
    runtime_dir: Path,
) -> None:
    """Even when their leases are lost, and no guard will ever look."""
    kernelspec()
    keeper = start_keeper("contained")
    keeper.full("contained: 1 of 1 warm")
    leave_without_a_guard(runtime_dir)
    keeper.kill()
    for lease in leases():
        (runtime_dir / "container-provisioner" / "owners" / lease).unlink()
    (gone, *_) = command("prune", "--json").json["removed"]
    assert (gone["kind"], gone["why"]) == ("warm container", "its keeper has died")
    assert names(containers) == set()
    assert left_below(runtime_dir) == []


def test_of_other_runtime_directories_only_what_is_gone_is_removed_when_asked_for(
    start_owner: StartOwner,
    kernelspec: WriteKernelspec,
    folder: Path,
    engine: OwnEngine,
    containers: docker.DockerClient,
    runtime_dir: Path,
) -> None:
    """F32: a Jupyter with another runtime directory may well be at work."""
    with own_jupyter() as elsewhere, pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENGINE_URL, engine.url)
        write_kernelspec(elsewhere, on_server_exit="keep")
        with owners(folder, containers) as start:
            lost = start()
        patch.setenv("JUPYTER_RUNTIME_DIR", str(runtime_dir))
        would = command("prune", "--dry-run", "--everything", "--json").json
        assert lost.kernel_id not in str(would)  # its directory is there
        patch.undo()
    name = lost.container.name
    assert lost.container.status == "running"

    kernelspec()
    mine = start_owner()
    done = command("prune")
    assert done.code == 0
    assert f"Left: 1 of runtime directories that are gone: {name}." in done.stderr
    refused = command("prune", "--everything")
    assert (refused.code, refused.stdout) == (2, "")
    assert "add --yes" in refused.stderr
    would = command("prune", "--everything", "--dry-run", "--json").json["would_remove"]
    assert [(each["name"], each["why"]) for each in would] == [
        (name, "its runtime directory is gone")
    ]
    assert name in names(containers)
    removed = command("prune", "--everything", "--yes", "--json").json
    assert [each["name"] for each in removed["removed"]] == [name]
    assert removed["elsewhere"] == []
    assert names(containers) == {mine.container.name}
    mine.end()
