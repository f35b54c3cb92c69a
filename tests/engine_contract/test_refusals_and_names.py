"""What an engine refuses, and who has a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from container_provisioner.engine.base import ContainerEngine
from container_provisioner.errors import (
    ContainerGone,
    ImageMissing,
    NameTaken,
    RuntimeMissing,
    WorkspaceError,
)
from container_provisioner.spec import ContainerSpec, Mount

from .conftest import Make, in_state

# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"image": "no-such-image:1"}, ImageMissing, "no-such-image:1"),
        ({"runtime": "no-such-runtime"}, RuntimeMissing, "no-such-runtime"),
        ({"mounts": (Mount(source="/no/such", target="/mnt"),)}, WorkspaceError, "/no/such"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_nothing_is_made(
    engine: ContainerEngine,
    spec: ContainerSpec,
    create: Make,
    fields: dict[str, object],
    error: type[Exception],
    words: str,
):
    with pytest.raises(error, match=words):
        create(replace(spec, **fields))
    assert engine.list_containers(spec.labels) == []


def test_a_mount_that_has_gone_is_refused_at_the_start(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, tmp_path: Path
):
    folder = tmp_path / "folder"
    folder.mkdir()
    container = create(replace(spec, mounts=(Mount(source=str(folder), target="/mnt"),)))
    folder.rmdir()
    with pytest.raises(WorkspaceError, match=str(folder)):
        engine.start(container)


def test_a_taken_name_is_refused(engine: ContainerEngine, spec: ContainerSpec, create: Make):
    first = create(spec)
    with pytest.raises(NameTaken, match=spec.name):
        create(spec)
    engine.remove(first)
    create(spec)


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "name"])
@pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
def test_a_container_can_get_another_name_in_every_state(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, state: str, by: str
):
    container = in_state(engine, create, spec, state)
    before, new_name = engine.inspect(container), f"{spec.name}-renamed"
    engine.rename(container if by == "id" else spec.name, new_name)
    assert engine.inspect(new_name) == replace(before, name=new_name)
    with pytest.raises(ContainerGone):
        engine.inspect(spec.name)
    create(spec)  # its old name is free


def test_a_name_that_is_anothers_is_refused_and_both_keep_theirs(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    first, second = create(spec), create(replace(spec, name=f"{spec.name}-2"))
    for container in (second, f"{spec.name}-2"):
        with pytest.raises(NameTaken, match=spec.name):
            engine.rename(container, spec.name)
    assert engine.inspect(spec.name).id == first
    assert engine.inspect(f"{spec.name}-2").id == second


def test_what_is_gone_gets_no_name(engine: ContainerEngine, spec: ContainerSpec, create: Make):
    container = create(spec)
    engine.remove(container)
    for gone in (container, spec.name, "never-there"):
        with pytest.raises(ContainerGone):
            engine.rename(gone, f"{spec.name}-2")
