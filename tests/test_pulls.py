"""Images that are really pulled, from a registry of the test's own."""

from __future__ import annotations

import logging
import re

import docker
import pytest

from container_provisioner import image as image_module
from container_provisioner.engine.base import PullStep
from container_provisioner.engine.calls import Engine
from container_provisioner.engine.docker_engine import DockerEngine
from container_provisioner.errors import PullFailed
from container_provisioner.image import ensure_image
from container_provisioner.pulling import PullCounter, PullTotals

from .docker_url import DOCKER_URL
from .ends import until
from .registry import Registry, noise

pytestmark = pytest.mark.docker

LOG = logging.getLogger("jupyter")


def pulled(image: str) -> list[PullStep]:
    engine, steps = DockerEngine(DOCKER_URL), []
    try:
        engine.pull(image, steps.append)
    finally:
        engine.close()
    return steps


def test_steps_of_a_pull(registry: Registry):
    """Each layer with its bytes, in order; then, of the whole image, what was got."""
    registry.rate = 1_000_000
    image = registry.add(noise(100_000), noise(400_000), config={"User": "1000"})
    steps = pulled(image)
    layers = {step.layer for step in steps} - {""}
    assert len(layers) == 2
    assert all(len(layer) == 12 for layer in layers)
    for layer in layers:
        of_layer = [step for step in steps if step.layer == layer]
        sizes = [step.current for step in of_layer if step.status == "Downloading"]
        assert sizes
        assert sizes == sorted(sizes)
        assert str(of_layer[-1]) == f"{layer}: Pull complete"
    assert str(steps[0]).startswith("Pulling from image-")
    assert str(steps[-1]) == f"Status: Downloaded newer image for {image}"
    counter, seen = PullCounter(), []
    for step in steps:
        counter.add(step)
        seen.append(counter.totals)
    assert (seen[-1].layers, seen[-1].layers_done) == (2, 2)
    assert 500_000 < seen[-1].current == seen[-1].total < 510_000
    assert re.fullmatch(r"2 of 2 layers, (4[89]\d.* KiB) of \1", str(seen[-1]))
    assert [totals.current for totals in seen] == sorted(totals.current for totals in seen)
    assert all(totals.current <= totals.total for totals in seen)


def test_layers_that_are_there_count_as_done(registry: Registry):
    base = noise(10_000)
    pulled(registry.add(base))
    counter = PullCounter()
    for step in pulled(registry.add(base, noise(200_000))):
        counter.add(step)
    assert counter.totals.layers == counter.totals.layers_done == 2
    assert counter.totals.total < 210_000


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "waiting for the registry"),
        ([("a", "Pulling fs layer", 0, 0), ("b", "Waiting", 0, 0)], "0 of 2 layers"),
        (
            [("a", "Downloading", 120 * 2**20, 3 * 2**29), ("b", "Already exists", 0, 0)],
            "1 of 2 layers, 120 MiB of 1.5 GiB",
        ),
        (
            [("a", "Downloading", 9, 10 * 2**20), ("a", "Download complete", 0, 0)],
            "0 of 1 layers, 10 MiB of 10 MiB",
        ),
        (
            [("a", "Downloading", 5 * 2**20, 10 * 2**20), ("a", "Retrying in 5 seconds", 0, 0)],
            "0 of 1 layers, 5 MiB of 10 MiB",
        ),
        (
            [("a", "Extracting", 10, 10 * 2**20), ("a", "Pull complete", 0, 0)],
            "1 of 1 layers, 10 MiB of 10 MiB",
        ),
    ],
)
def test_totals_in_words(steps: list[tuple[str, str, int, int]], words: str):
    counter = PullCounter()
    for layer, status, current, total in steps:
        counter.add(PullStep(layer=layer, status=status, current=current, total=total))
    assert str(counter.totals) == words
    assert str(PullTotals()) == "waiting for the registry"


async def test_a_slow_pull_in_the_log(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """F27: its beginning, now and then how far it is, its end; not each of its many steps."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(image_module, "PROGRESS_SECONDS", 0.5)
    registry.rate = 1_000_000
    image = registry.add(noise(1_500_000), noise(10_000))
    steps: list[PullStep] = []
    engine = Engine(DockerEngine(DOCKER_URL))
    try:
        await ensure_image(
            engine, image, policy="missing", deadline=60, log=LOG, progress=steps.append
        )
        before = list(registry.asked)
        await ensure_image(engine, image, policy="missing", deadline=60, log=LOG)
    finally:
        engine.close()
    assert registry.asked == before  # it is there: the registry is not asked again
    lines = [message for message in caplog.messages if image in message]
    assert lines[0] == f"Pulling image {image} from its registry…"
    assert lines[-1].startswith(f"Pulled image {image} in ")
    assert lines[-1].endswith(" s (2 of 2 layers, 1.4 MiB of 1.4 MiB)")
    between = lines[1:-1]
    assert 1 <= len(between) <= 10 < len(steps)
    assert between[0].startswith(f"Pulling image {image}: ")
    assert between[0].endswith(" of 1.4 MiB")


async def test_a_pull_that_is_given_up_says_no_more(
    registry: Registry,
    docker_client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """F27: the engine goes on with it, and whoever listened has other things to do."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(image_module, "PROGRESS_SECONDS", 0.0)
    registry.open.clear()
    image = registry.add(noise(400_000))
    steps: list[PullStep] = []
    engine = Engine(DockerEngine(DOCKER_URL))
    try:
        with pytest.raises(PullFailed, match=r"not finished after 1 s \(pull_timeout\)"):
            await ensure_image(
                engine, image, policy="missing", deadline=1, log=LOG, progress=steps.append
            )
        assert registry.stalled.is_set()
        assert any(step.current for step in steps)
        told, logged = len(steps), len(caplog.messages)
        registry.open.set()
        await until(lambda: is_there(docker_client, image))
        assert (len(steps), len(caplog.messages)) == (told, logged)
    finally:
        engine.close()


def is_there(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


def test_a_registry_that_wants_a_login(registry: Registry):
    image = registry.add(noise(1000))
    registry.denies = True
    with pytest.raises(PullFailed, match=f"{image}.*no basic auth credentials.*needs no login"):
        pulled(image)


def test_an_image_that_the_registry_does_not_have(registry: Registry):
    with pytest.raises(PullFailed, match=r"could not be pulled: .*manifest unknown"):
        pulled(f"{registry.host}/none:1")
