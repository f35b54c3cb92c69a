"""A kernel's container has one name. What happens when somebody has it already?"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from container_provisioner import labels
from container_provisioner.errors import EngineError, KernelNotAdoptable, NameTaken
from container_provisioner.spec import ContainerSpec
from container_provisioner.store import KernelDirectory, RecordStore

from ..fake_engine import FakeEngine
from .conftest import IMAGE, Launches, until

OTHER_LAUNCH = "a launch of another process"


def other_container(
    fake: FakeEngine, name: str, kernel_id: str | None, argv: tuple[str, ...] = ("sleep", "300")
) -> str:
    """Made by somebody else; with our labels when it is of a kernel."""
    ours = labels.kernel_labels(
        kernel_id=kernel_id or "",
        launch_id=OTHER_LAUNCH,
        kernel_name="python3",
        uid=0,
        owner="another",
        place="another",
        on_server_exit="stop",
    )
    spec = ContainerSpec(name=name, image=IMAGE, argv=argv, labels=ours if kernel_id else {})
    return fake.create(spec)


@pytest.mark.parametrize("state", ["created", "exited"])
async def test_a_stopped_container_of_the_same_kernel_makes_way(launches: Launches, state: str):
    """F26: what a server left that was killed between two steps."""
    kernel_id, fake = str(uuid.uuid4()), launches.fake
    stopped = other_container(fake, labels.container_name(kernel_id), kernel_id, ("true",))
    if state == "exited":
        fake.start(stopped)
        await until(lambda: fake.named(stopped).state == "exited")
    manager = await launches.start(kernel_id=kernel_id)
    assert list(fake.containers) == [launches.container(manager).id]
    assert stopped not in fake.containers


async def test_a_container_that_is_being_removed_is_waited_for(launches: Launches):
    """F26: the engine frees the name only when it is done."""
    attempts = iter(range(3))

    def name_is_being_freed() -> None:
        if next(attempts, None) is not None:
            raise NameTaken("the container name is already in use")

    launches.fake.before["create"] = name_is_being_freed
    manager = await launches.start()
    assert await manager.is_alive()
    assert launches.fake.calls["create"] == 4


def files_below(path: Path) -> dict[str, str]:
    return {str(file): file.read_text() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("paused", [False, True])
async def test_a_kernel_that_runs_already_is_not_touched(launches: Launches, paused: bool):
    """F26: neither its container nor its files, by the launch, its failure, and its cleanup."""
    first = await launches.start()
    running = launches.container(first)
    directory = KernelDirectory.of(first.kernel_id).path
    record = RecordStore().path(first.kernel_id)
    before = (files_below(directory), json.loads(record.read_text()))
    if paused:
        launches.fake.pause(running.id)
    second = launches.manager(kernel_id=first.kernel_id)
    with pytest.raises(KernelNotAdoptable, match=f"{first.kernel_id}.*runs already"):
        await second.start_kernel(cwd=str(launches.folder))
    await second.shutdown_kernel(now=True)
    assert list(launches.fake.containers) == [running.id]
    assert running.runs
    assert await first.is_alive()
    assert (files_below(directory), json.loads(record.read_text())) == before


async def test_similar_names_are_left_alone(launches: Launches):
    """F26"""
    kernel_id, fake = str(uuid.uuid4()), launches.fake
    name = labels.container_name(kernel_id)
    others = [
        other_container(fake, f"{name}-2", None),
        other_container(fake, name[:-1], None),
        other_container(fake, f"other-{name}", "another kernel"),
    ]
    manager = await launches.start(kernel_id=kernel_id)
    await manager.restart_kernel(now=True)
    await manager.shutdown_kernel(now=True)
    assert list(fake.containers) == others
    for other in others:
        fake.remove(other)


async def test_our_name_without_our_label_is_refused(launches: Launches):
    """F26: the label decides whose a container is. It is not even removed at the end."""
    kernel_id, fake = str(uuid.uuid4()), launches.fake
    name = labels.container_name(kernel_id)
    foreign = other_container(fake, name, None)
    manager = launches.manager(kernel_id=kernel_id)
    with pytest.raises(EngineError, match=f"{name} is taken by container {foreign[:12]}"):
        await manager.start_kernel(cwd=str(launches.folder))
    await manager.shutdown_kernel(now=True)
    assert list(fake.containers) == [foreign]
    fake.remove(foreign)
