"""Networks without a way out: one of a name, and there for as long as a container needs it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from container_provisioner.engine.base import ContainerEngine
from container_provisioner.engine.podman import PodmanEngine
from container_provisioner.errors import NameTaken, NetworkMissing
from container_provisioner.spec import ContainerSpec

from .conftest import Make, ended, shell

LABELS = {"contract-test": "yes"}


@pytest.fixture
def name(engine: ContainerEngine, create: Make) -> Iterator[str]:
    """Of a network that is removed in the end. `create` first: its containers go before that."""
    name = f"contract-{uuid.uuid4().hex}"
    yield name
    for container in engine.list_containers({"in-network": name}):
        engine.remove(container.id)
    assert engine.remove_network(name) is True


def make(engine: ContainerEngine, name: str, *, internal: bool = True) -> None:
    engine.create_network(name, bridge=name[:15], internal=internal, labels=LABELS)


def in_network(spec: ContainerSpec, name: str) -> ContainerSpec:
    return replace(spec, network=name, labels={**spec.labels, "in-network": name})


@pytest.mark.parametrize("internal", [True, False], ids=["internal", "published"])
def test_a_network_is_made_found_and_removed(engine: ContainerEngine, name: str, internal: bool):
    assert engine.networks(name) == []
    make(engine, name, internal=internal)
    (found,) = engine.networks(name)
    assert (found.name, found.internal, found.labels) == (name, internal, LABELS)
    assert engine.networks(name[:-1]) == []  # no part of a name will do
    assert engine.remove_network(name) is True
    assert engine.networks(name) == []
    assert engine.remove_network(name) is True


def test_of_many_that_make_it_at_once_one_succeeds(engine: ContainerEngine, name: str):
    def attempt(number: int) -> bool:
        try:
            make(engine, name)
        except NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]
    assert len(engine.networks(name)) == 1


def test_a_bridge_belongs_to_one_network(engine: ContainerEngine, name: str):
    make(engine, name)
    with pytest.raises(NameTaken):
        engine.create_network(f"{name}-other", bridge=name[:15], internal=True, labels=LABELS)
    assert engine.networks(f"{name}-other") == []


def test_it_stays_while_a_container_joins_it_ended_or_not(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, name: str
):
    make(engine, name)
    container = create(in_network(shell(spec, "read line"), name))
    assert engine.remove_network(name) is False
    engine.start(container)
    ended(engine, container)
    assert engine.remove_network(name) is False
    engine.start(container)  # it could not if it were gone
    engine.remove(container)
    assert engine.remove_network(name) is True


def test_a_container_that_has_not_run_waits_for_its_network(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, name: str
):
    """Podman looks for it when the container is made, the others when it is started."""
    container = ""
    if not isinstance(engine, PodmanEngine):
        container = create(in_network(spec, name))
    with pytest.raises(NetworkMissing, match=name):
        engine.start(container or create(in_network(spec, name)))
    make(engine, name)
    container = container or create(in_network(spec, name))
    engine.start(container)
    assert engine.inspect(container).addresses[name]
