"""Builds: what is told of them, how they fail, and that nothing else is left than the image."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from container_provisioner.engine.base import BuildRequest, BuildStep, ContainerEngine, PullStep
from container_provisioner.engine.build_context import build_context
from container_provisioner.engine.calls import Engine
from container_provisioner.errors import BuildFailed, ImageMissing

from ..conftest import PLAIN_IMAGE
from ..fake_build import unique_image
from ..fake_engine import FakeEngine

RUN_ID = "io.container-provisioner-test.build"


@pytest.fixture
def image(engine: ContainerEngine) -> Iterator[str]:
    image = unique_image()
    yield image
    engine.remove_image(image)


@pytest.fixture
def nothing_more(engine: ContainerEngine) -> Iterator[None]:
    """No container and no nameless image more than before: those of the test's own engine calls
    are told from others' by their labels and commands being this module's."""
    if isinstance(engine, FakeEngine):
        yield
        return
    client = docker.APIClient(base_url=engine.url, version="1.41")

    def ours() -> tuple[set[str], set[str]]:
        containers = client.containers(all=True)
        images = client.images(filters={"dangling": True})
        return (
            {item["Id"] for item in containers if RUN_ID in item["Command"]},
            {item["Id"] for item in images if _history_has(client, item["Id"], RUN_ID)},
        )

    yield
    left = ours()
    client.close()
    assert left == (set(), set())


def _history_has(client: Any, image: str, text: str) -> bool:
    try:
        return any(text in layer["CreatedBy"] for layer in client.history(image))
    except docker.errors.NotFound:  # somebody else's, gone by now
        return False


def request(image: str, *lines: str, **fields: Any) -> BuildRequest:
    """Every Dockerfile has a first step that marks what is made here, also the nameless."""
    first, *rest = lines
    text = "\n".join([first, f"RUN : {RUN_ID} {image}", *rest])
    context = build_context(None, files={"Dockerfile": text, "file": "content"})
    return BuildRequest(image=image, context=context, network="none", **fields)


class Steps:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str, str]] = []
        self.line = threading.Event()

    def __call__(self, step: BuildStep | PullStep) -> None:
        assert isinstance(step, BuildStep)
        self.seen.append((step.number, step.total, step.instruction, step.line))
        if step.line:
            self.line.set()


def test_a_build_tells_its_steps_and_lines_and_takes_arguments(
    engine: ContainerEngine, image: str, nothing_more: None
):
    steps = Steps()
    made = engine.build(
        request(
            image,
            f"FROM {PLAIN_IMAGE}",
            "ARG WORD",
            "RUN echo $WORD; echo error >&2",
            arguments={"WORD": "hello"},
        )
    ).run(steps)
    run = "RUN echo $WORD; echo error >&2"
    assert steps.seen[0] == (1, 4, f"FROM {PLAIN_IMAGE}", "")
    assert next(step for step in steps.seen if step[0] == 4) == (4, 4, run, "")
    assert {(4, 4, run, "hello"), (4, 4, run, "error")} <= set(steps.seen)
    assert engine.inspect_image(image).id == made


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RUN echo the reason; exit 3", "step 3 of 3, 'RUN echo the reason; exit 3', .* code 3"),
        ("COPY nowhere /", "nowhere"),
        ("FRM x", "(?i)unknown instruction"),
    ],
    ids=["command", "copy", "syntax"],
)
def test_a_build_that_fails_says_where_and_leaves_nothing(
    engine: ContainerEngine, image: str, nothing_more: None, line: str, says: str
):
    with pytest.raises(BuildFailed, match=says) as caught:
        engine.build(request(image, f"FROM {PLAIN_IMAGE}", line)).run(Steps())
    assert caught.value.exit_code == 5
    if "reason" in line:
        assert caught.value.output == ("the reason",)
        assert str(caught.value).endswith("Its last lines:\n    the reason")
    with pytest.raises(ImageMissing):
        engine.inspect_image(image)


def test_what_progress_raises_ends_the_build(
    engine: ContainerEngine, image: str, nothing_more: None
):
    def refuse(step: object) -> None:
        if getattr(step, "line", ""):
            raise LookupError("enough")

    with pytest.raises(LookupError):
        engine.build(
            request(image, f"FROM {PLAIN_IMAGE}", f"RUN echo go; sleep 60; : {RUN_ID}")
        ).run(refuse)
    with pytest.raises(ImageMissing):
        engine.inspect_image(image)


async def test_a_cancelled_build_is_cleared_away_before_the_caller_goes_on(
    engine: ContainerEngine, image: str, nothing_more: None
):
    """F27, of builds: Ctrl-C in the middle of a command, with a step done before it."""
    steps, calls = Steps(), Engine(engine)
    sleep = f"RUN echo go; sleep 60; : {RUN_ID}"
    build = asyncio.ensure_future(
        calls.build(request(image, f"FROM {PLAIN_IMAGE}", "COPY file /", sleep), steps)
    )
    assert await asyncio.to_thread(steps.line.wait, 30)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(build, 30)
    with pytest.raises(ImageMissing):
        engine.inspect_image(image)
    calls.close()
