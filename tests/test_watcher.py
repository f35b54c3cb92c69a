"""The exit watcher: every end is noticed once, whatever the engine and its events do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator

import pytest

from container_provisioner import labels
from container_provisioner.engine import watcher as watcher_module
from container_provisioner.engine.calls import Engine
from container_provisioner.engine.docker_engine import DockerEngine
from container_provisioner.engine.find import close_engines
from container_provisioner.engine.watcher import ExitWatcher, Watch
from container_provisioner.errors import EngineError, EngineUnavailable
from container_provisioner.exits import ExitStatus
from container_provisioner.spec import ContainerSpec

from .conftest import PLAIN_IMAGE
from .docker_url import DOCKER_URL
from .fake_container import Gate, failing
from .fake_engine import FakeEngine


def spec(script: str) -> ContainerSpec:
    unique = uuid.uuid4().hex
    return ContainerSpec(
        name=f"watched-{unique}",
        image=PLAIN_IMAGE,
        argv=("sh", "-c", script),
        labels={labels.KERNEL_ID: unique},
        environment={"TINI_KILL_PROCESS_GROUP": "1"},
    )


def wait(condition: Callable[[], object], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """F16: neither the watcher's, nor an alarm's, blocked for ever in an engine's call."""
    before = set(threading.enumerate())
    yield
    wait(lambda: set(threading.enumerate()) <= before)


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    fake = FakeEngine()
    fake.add_image(PLAIN_IMAGE)
    yield fake
    fake.dispose()


@pytest.fixture
def watcher(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitWatcher]:
    monkeypatch.setattr(watcher_module, "_MAX_PAUSE", 0.1)
    watcher = ExitWatcher(fake)
    yield watcher
    watcher.close()


def run(fake: FakeEngine, script: str) -> str:
    container = fake.create(spec(script))
    fake.start(container)
    return container


def seen(watch: Watch) -> ExitStatus:
    return watch.ended.result(timeout=20)


# -- an end is noticed -------------------------------------------------------------------------


def test_an_end_is_noticed_by_its_event(fake: FakeEngine, watcher: ExitWatcher):
    container = run(fake, "sleep 300")
    watch = watcher.follow(container)
    wait(lambda: fake.calls["list_containers"])
    assert watch.status is None
    fake.signal(container, 9)
    assert seen(watch) == ExitStatus(code=137)
    assert fake.calls["list_containers"] == 1


def test_a_removal_is_noticed(fake: FakeEngine, watcher: ExitWatcher):
    container = run(fake, "sleep 300")
    watch = watcher.follow(container)
    wait(lambda: fake.calls["list_containers"])
    fake.before["inspect"] = Gate()  # until it is removed, too
    fake.remove(container)
    fake.before.pop("inspect").release()
    assert seen(watch) == ExitStatus(code=1, removed=True)


def test_memory_that_runs_out_is_told_at_once(fake: FakeEngine, watcher: ExitWatcher):
    container = run(fake, "sleep 300")
    told = threading.Event()
    watch = watcher.follow(container, told.set)
    fake.oom(container, kills_kernel=False)
    assert told.wait(20)
    assert watch.status is None
    fake.oom(container)
    assert seen(watch) == ExitStatus(code=137, oom_killed=True)


@pytest.mark.parametrize("stalled", [False, True], ids=["events", "list"])
def test_an_end_before_the_stream_is_connected_is_noticed(
    fake: FakeEngine, watcher: ExitWatcher, stalled: bool
):
    gate = fake.before["events"] = Gate()
    fake.events_stall = stalled
    container = run(fake, "sleep 300")
    watch = watcher.follow(container)
    assert gate.reached.wait(20)
    fake.signal(container, 9)
    wait(lambda: fake.named(container).state == "exited")
    gate.release()
    assert seen(watch) == ExitStatus(code=137)


def test_a_stalled_stream_is_replaced_in_time(
    fake: FakeEngine, watcher: ExitWatcher, monkeypatch: pytest.MonkeyPatch
):
    """F17: events are a hint; the list is taken again every `relist_seconds`."""
    monkeypatch.setattr(fake, "relist_seconds", 0.2)
    fake.events_stall = True
    container = run(fake, "sleep 300")
    watch = watcher.follow(container)
    wait(lambda: fake.calls["list_containers"])
    fake.signal(container, 9)
    assert seen(watch) == ExitStatus(code=137)


def test_a_broken_stream_is_replaced_at_once(fake: FakeEngine, watcher: ExitWatcher):
    container = run(fake, "sleep 300")
    watch = watcher.follow(container)
    wait(lambda: fake.streams)
    fake.events_stall = True  # so that only the list can tell
    fake.signal(container, 9)
    fake.break_streams()
    assert seen(watch) == ExitStatus(code=137)


def test_the_end_of_an_earlier_run_is_not_taken_for_the_new_ones(
    fake: FakeEngine, watcher: ExitWatcher
):
    """A restart in place: the engine repeats the event of the first end to a new stream."""
    container = run(fake, "sleep 300")
    first = watcher.follow(container)
    fake.signal(container, 9)
    assert seen(first) == ExitStatus(code=137)
    fake.start(container)
    second = watcher.follow(container)
    looks = fake.calls["inspect"]
    fake.break_streams()  # the next one begins with the last second's events
    wait(lambda: fake.calls["inspect"] > looks)
    assert second.status is None
    fake.signal(container, 15)
    assert seen(second) == ExitStatus(code=143)
    assert seen(first) == ExitStatus(code=137)


# -- unknown is not dead -----------------------------------------------------------------------


@pytest.mark.parametrize("verbs", [["inspect", "list_containers", "events"], ["inspect"]])
@pytest.mark.parametrize("exc", [EngineUnavailable("read timed out"), EngineError("500")])
def test_an_engine_that_does_not_answer_says_nothing_of_its_containers(
    fake: FakeEngine,
    watcher: ExitWatcher,
    caplog: pytest.LogCaptureFixture,
    verbs: list[str],
    exc: EngineError,
):
    """F11: unknown for as long as it takes, one warning, and then what is true."""
    container = run(fake, "sleep 300")
    watch = watcher.follow(container)
    wait(lambda: fake.calls["list_containers"])
    fake.before = dict.fromkeys(verbs, failing(exc))
    fake.remove(container)
    fake.break_streams()
    tries = fake.calls[verbs[-1]]
    wait(lambda: fake.calls[verbs[-1]] > tries + 5)
    assert watch.status is None
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [
        f"{exc}. Kernels whose state is unknown are taken to be alive; trying again."
    ]
    fake.before = {}
    assert seen(watch) == ExitStatus(code=1, removed=True)


# -- its thread --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_other_watcher() -> None:
    """Managers that other tests have dropped follow their kernels for as long as the process."""
    close_engines()


def watcher_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "container-watcher"]


def test_the_thread_ends_some_time_after_the_last_watch(
    fake: FakeEngine, watcher: ExitWatcher, monkeypatch: pytest.MonkeyPatch
):
    assert watcher_threads() == []
    first, second = (watcher.follow(run(fake, "sleep 300")) for _ in range(2))
    assert len(watcher_threads()) == 1
    watcher.forget(first)
    watcher.forget(first)
    assert len(watcher_threads()) == 1
    watcher.forget(second)
    third = watcher.follow(run(fake, "exit 3"))  # in that time, so nothing is asked again
    assert seen(third) == ExitStatus(code=3)
    assert fake.calls["list_containers"] == 1
    monkeypatch.setattr(watcher_module, "IDLE_SECONDS", 0.1)
    watcher.close()
    watcher.forget(third)
    fourth = watcher.follow(run(fake, "sleep 300"))
    assert len(watcher_threads()) == 1
    watcher.forget(fourth)
    wait(lambda: watcher_threads() == [])
    fifth = watcher.follow(run(fake, "exit 5"))
    assert seen(fifth) == ExitStatus(code=5)


def test_the_thread_ends_while_it_waits_for_the_engine(
    fake: FakeEngine, watcher: ExitWatcher, monkeypatch: pytest.MonkeyPatch
):
    """F16: in a call that does not return, and between two that failed."""
    monkeypatch.setattr(watcher_module, "IDLE_SECONDS", 0.1)
    fake.before["events"] = failing(EngineUnavailable("gone"))
    watch = watcher.follow(run(fake, "sleep 300"))
    wait(lambda: fake.calls["events"])
    watcher.forget(watch)
    wait(lambda: watcher_threads() == [])
    gate = fake.before["events"] = Gate()
    watch = watcher.follow(run(fake, "sleep 300"))
    assert gate.reached.wait(20)
    watcher.forget(watch)
    gate.release()
    wait(lambda: watcher_threads() == [])
    assert all(stream.closed for stream in fake.streams)


def test_forgetting_does_not_wait_for_the_engine(fake: FakeEngine, watcher: ExitWatcher):
    """F20: it is called on the event loop, and the thread may be in a call that takes long."""
    watch = watcher.follow(run(fake, "sleep 300"))
    wait(lambda: fake.calls["list_containers"])
    gate = fake.before["inspect"] = Gate()
    fake.signal(watch.container_id, 9)
    assert gate.reached.wait(20)
    began = time.monotonic()
    watcher.forget(watch)
    assert time.monotonic() - began < 0.5
    gate.release()


@pytest.mark.docker
def test_a_wait_outlasts_the_engines_own_deadline():
    """F16: a call may take a second; the container runs for two, and nothing else happens."""
    docker_engine = DockerEngine(DOCKER_URL, timeout=1)
    container = docker_engine.create(spec("sleep 2; exit 7"))
    try:
        docker_engine.start(container)
        watcher = ExitWatcher(docker_engine)
        watch = watcher.follow(container)
        assert seen(watch) == ExitStatus(code=7)
        watcher.forget(watch)
    finally:
        docker_engine.remove(container)
        docker_engine.close()


# -- many at once ------------------------------------------------------------------------------


ALL = {labels.KERNEL_ID: None}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():
        await asyncio.sleep(0.05)


@pytest.mark.docker
async def test_fifty_at_once_are_not_mixed_up_and_waste_no_connection(
    caplog: pytest.LogCaptureFixture,
):
    """F19: each is created, started, watched, ended with a code of its own, and removed."""
    engine = Engine(DockerEngine(DOCKER_URL))

    async def live(code: int) -> tuple[ExitStatus, str]:
        script = f"trap 'exit {code}' TERM; echo this is {code}; sleep 300 & wait"
        container = await engine.create(spec(script))
        try:
            await engine.start(container)
            watch = engine.watcher.follow(container)
            await engine.check(watch)

            async def ready() -> bool:
                return bool(await engine.logs(container, 1))

            await asyncio.wait_for(until(ready), 60)
            assert watch.status is None
            assert container in {c.id for c in await engine.list_containers(ALL)}
            assert await engine.signal(container, 15)
            status = await asyncio.wait_for(asyncio.wrap_future(watch.ended), 60)
            output = await engine.logs(container, 1)
            engine.watcher.forget(watch)
            return status, output
        finally:
            await engine.remove(container)

    with caplog.at_level(logging.WARNING):
        lives = await asyncio.gather(*(live(code) for code in range(1, 51)))
    assert lives == [(ExitStatus(code=code), f"this is {code}\n") for code in range(1, 51)]
    assert [record.getMessage() for record in caplog.records] == []
    await asyncio.to_thread(engine.close)
