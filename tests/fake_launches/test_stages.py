"""What is reported of a kernel's start and end, to whoever listens in this process."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from container_provisioner import stages
from container_provisioner.engine.base import ImageInfo, PullStep
from container_provisioner.errors import ImageMissing, KernelDied
from container_provisioner.exits import ExitStatus
from container_provisioner.pulling import PullTotals
from container_provisioner.stages import Report, Reporter, observe, stop_observing

from .conftest import IMAGE, Launches, until
from .standby import (
    Standby,
    one_waits,
    standby_fixture,  # noqa: F401 - a fixture
)


@dataclass
class Listener:
    """Everything that is reported, in order."""

    reports: list[Report] = field(default_factory=list)

    def __call__(self, report: Report) -> None:
        self.reports.append(report)

    @property
    def stages(self) -> list[str]:
        return [report.stage for report in self.reports]

    async def until(self, *stages: str) -> list[Report]:
        """These and no others, in this order; and forgets them."""
        await until(lambda: len(self.reports) >= len(stages))
        reports, self.reports = self.reports, []
        assert [report.stage for report in reports] == list(stages)
        return reports


@pytest.fixture
def told() -> Iterator[Listener]:
    listener = Listener()
    observe(listener)
    yield listener
    stop_observing(listener)


def facts(report: Report, *names: str) -> dict[str, Any]:
    return {name: getattr(report, name) for name in names}


async def test_a_cold_start_and_its_shutdown(launches: Launches, told: Listener):
    manager = await launches.start()
    creating, starting, ready = await told.until("creating", "starting", "ready")
    container_id = launches.container(manager).id
    assert creating.container_id == ""
    assert starting.container_id == ready.container_id == container_id
    for report in (creating, starting, ready):
        assert facts(report, "kernel_id", "kernel_name", "image", "start", "manager") == {
            "kernel_id": manager.kernel_id,
            "kernel_name": manager.kernel_name,
            "image": IMAGE,
            "start": "cold",
            "manager": manager,
        }
    assert 0 <= creating.seconds <= starting.seconds <= ready.seconds
    await manager.shutdown_kernel(now=True)
    (exited,) = await told.until("exited")
    assert facts(exited, "container_id", "start", "cause", "exit_code") == {
        "container_id": container_id,
        "start": "cold",
        "cause": "requested",
        "exit_code": 137,
    }


@pytest.mark.parametrize("now", [True, False])
async def test_restarts(launches: Launches, told: Listener, now: bool):
    """A shutdown that the kernel does by itself was asked for as well."""
    manager = await launches.start(
        restart_mode="in-place", traits={"shutdown_wait_time": 0.5}, argv=["sleep", "300"]
    )
    first = (await told.until("creating", "starting", "ready"))[-1]
    await manager.restart_kernel(now=now)
    exited, starting, ready = await told.until("exited", "starting", "ready")
    assert exited.cause == "requested"
    assert (starting.start, ready.start) == ("in-place", "in-place")
    assert ready.container_id == exited.container_id == first.container_id


async def test_a_restart_in_a_new_container(launches: Launches, told: Listener):
    manager = await launches.start(restart_mode="recreate")
    first = (await told.until("creating", "starting", "ready"))[-1]
    await manager.restart_kernel(now=True)
    reports = await told.until("exited", "creating", "starting", "ready")
    assert reports[0].container_id == first.container_id != reports[-1].container_id
    assert (reports[0].cause, reports[-1].start) == ("requested", "cold")


async def test_a_warm_start_is_ready_at_once(launches: Launches, standby: Standby, told: Listener):
    """The pool's own containers are nobody's kernels: nothing is told of them."""
    async with one_waits(launches) as (offer, manager):
        assert told.stages == []
        await manager.start_kernel(cwd=str(launches.folder))
        (ready,) = await told.until("ready")
        assert (ready.start, ready.container_id) == ("warm", offer.container_id)
        launches.fake.named(offer.container_id).send(signal.SIGTERM)
        (exited,) = await told.until("exited")
        assert (exited.start, exited.cause) == ("warm", "signal")


def killed(launches: Launches, name: str) -> None:
    launches.fake.named(name).send(signal.SIGKILL)


def out_of_memory(launches: Launches, name: str) -> None:
    launches.fake.oom(name)


def out_of_memory_unheard(launches: Launches, name: str) -> None:
    launches.fake.named(name).oom_killed = True
    killed(launches, name)


GONE = ExitStatus(code=1, removed=True)
OOM = {
    "cause": "memory",
    "exit_code": 137,
    "reason": "it ran out of memory (memory_limit is 1 GiB)",
}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (
            killed,
            {
                "cause": "signal",
                "exit_code": 137,
                "reason": "it was ended by SIGKILL from outside or by itself (exit code 137)",
            },
        ),
        (out_of_memory, OOM),
        (out_of_memory_unheard, OOM),
    ],
)
async def test_deaths_by_their_cause(
    launches: Launches,
    told: Listener,
    end: Callable[[Launches, str], None],
    expected: dict[str, object],
):
    """F29: "oom" comes before the end, even when the engine's own event was lost.

    F12: told when it happens, not when a manager next polls.
    """
    manager = await launches.start(memory_limit="1g")
    await told.until("creating", "starting", "ready")
    end(launches, f"jupyter-kernel-{manager.kernel_id}")
    is_memory = expected["cause"] == "memory"
    reports = await told.until(*(["oom"] if is_memory else []), "exited")
    assert facts(reports[-1], *expected) == expected
    if is_memory:
        assert "memory" in reports[0].reason
        assert "1 GiB" in reports[0].reason
    await manager.shutdown_kernel(now=True)
    assert told.stages == []  # one end of one run


@pytest.mark.parametrize(
    ("status", "requested", "expected"),
    [
        (ExitStatus(code=0), False, ("exit", 0, "it ended with exit code 0")),
        (ExitStatus(code=0), True, ("requested", 0, "it ended with exit code 0")),
        (GONE, False, ("removed", None, "its container was removed from outside")),
        (GONE, True, ("requested", None, "it was removed at our request")),
        (None, True, ("requested", None, "it was removed at our request")),
        (
            ExitStatus(code=128, error="cannot mount /home/jo/secret"),
            False,
            ("error", 128, "the engine reports an error"),
        ),
    ],
)
def test_ends_in_words(
    told: Listener,
    status: ExitStatus | None,
    requested: bool,
    expected: tuple[str, int | None, str],
):
    """The engine's own words may have paths in them."""
    reporter = Reporter("k", logging.getLogger("jupyter"))
    reporter.exited(status, requested=requested)
    reporter.exited(ExitStatus(code=1), requested=requested)  # once is enough
    (exited,) = told.reports
    assert (exited.cause, exited.exit_code, exited.reason) == expected


async def test_an_end_that_the_engine_does_not_tell_of(launches: Launches, told: Listener):
    """A removed container has ended, whatever its events say."""
    launches.fake.events_stall = True
    manager = await launches.start()
    await told.until("creating", "starting", "ready")
    await manager.provisioner.cleanup()
    (exited,) = await told.until("exited")
    assert (exited.cause, exited.exit_code) == ("requested", None)


async def test_memory_that_runs_out_again_and_again_is_told_at_a_sane_rate(
    launches: Launches, told: Listener
):
    manager = await launches.start()
    await told.until("creating", "starting", "ready")
    name = f"jupyter-kernel-{manager.kernel_id}"
    for _ in range(20):
        launches.fake.oom(name, kills_kernel=False)
    killed(launches, name)  # later than all of them, in the same stream
    await until(lambda: "exited" in told.stages)
    assert told.stages == ["oom", "exited"]


async def test_a_start_that_fails_says_which_error_it_was(launches: Launches, told: Listener):
    with pytest.raises(ImageMissing):
        await launches.start(image="none:1", pull_policy="never")
    (failed,) = await told.until("failed")
    assert facts(failed, "image", "error", "reason", "start") == {
        "image": "none:1",
        "error": "ImageMissing",
        "reason": "the start failed (ImageMissing)",
        "start": "",
    }


async def test_a_kernel_that_dies_while_it_starts(launches: Launches, told: Listener):
    """Nothing that it printed is in a report: events may be for more people than kernels are."""
    launches.fake.on_start = lambda container: None
    secret = "the-password-is-mellon"
    with pytest.raises(KernelDied, match=secret):
        await launches.start(argv=["sh", "-c", f"echo {secret}; exit 3"])
    reports = await told.until("creating", "starting", "exited", "failed")
    assert (reports[2].cause, reports[2].exit_code) == ("exit", 3)
    assert reports[3].error == "KernelDied"
    assert secret not in repr(reports)
    assert str(launches.folder) not in repr(reports)


async def test_a_start_that_is_cancelled(launches: Launches, told: Listener):
    launches.fake.on_start = lambda container: None  # it never listens
    start = asyncio.ensure_future(launches.start())
    await until(lambda: told.stages == ["creating", "starting"])
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert told.reports[-1].error == "CancelledError"
    assert told.stages[-1] == "failed"


async def test_a_pull_is_told_from_its_beginning(
    launches: Launches, told: Listener, caplog: pytest.LogCaptureFixture
):
    """F27: a start that takes minutes is seen to do so."""
    caplog.set_level(logging.INFO)
    launches.fake.registry["other:1"] = ImageInfo(id="sha256:other", user="1000")
    await launches.start(image="other:1")
    pulling, creating, _, _ = await told.until("pulling", "creating", "starting", "ready")
    assert facts(pulling, "image", "pull", "start") == {
        "image": "other:1",
        "pull": PullTotals(),
        "start": "",
    }
    assert creating.pull is None
    lines = [message for message in caplog.messages if message.startswith("Pull")]
    assert lines[0] == "Pulling image other:1 from its registry…"
    assert lines[1].startswith("Pulled image other:1 in 0.")
    assert len(lines) == 2  # it was quick


def test_a_pull_of_thousands_of_steps_is_told_at_a_sane_rate(told: Listener):
    reporter = Reporter("k", logging.getLogger("jupyter"))
    for current in range(3000):
        reporter.pulling(PullStep(layer="a", status="Downloading", current=current, total=3000))
    assert told.stages == ["pulling"]


async def test_a_listener_that_fails_is_logged_and_the_kernel_starts(
    launches: Launches, told: Listener, caplog: pytest.LogCaptureFixture
):
    def fails(report: Report) -> None:
        raise ValueError("I do not like it")

    observe(fails)
    try:
        manager = await launches.start()
    finally:
        stop_observing(fails)
    assert await manager.is_alive()
    words = f"Kernel {manager.kernel_id}: creating was reported in vain; the kernel goes on."
    assert words in caplog.messages
    await told.until("creating", "starting", "ready")  # the others are told


async def test_nothing_is_made_when_nobody_listens(
    launches: Launches, monkeypatch: pytest.MonkeyPatch
):
    def never(**fields: Any) -> Report:
        raise AssertionError("a report for nobody")

    monkeypatch.setattr(stages, "Report", never)
    manager = await launches.start()
    await manager.shutdown_kernel(now=True)
