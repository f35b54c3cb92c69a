"""A container's life, from its creation to its removal, whoever the engine is."""

from __future__ import annotations

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from container_provisioner.engine.base import ContainerEngine
from container_provisioner.errors import CommandMissing, ContainerGone
from container_provisioner.spec import ContainerSpec

from .conftest import Make, archive, ended, in_state, pause, shell, wait

# -- one life ----------------------------------------------------------------------------------


def test_an_engine_says_what_it_is(engine: ContainerEngine):
    info = engine.info()
    assert info.name in ("fake", "docker", "podman")
    assert info.version
    assert info.api_version


def test_a_container_is_created_runs_and_ends(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    container = create(spec)
    created = engine.inspect(spec.name)
    assert (created.id, created.name, created.state) == (container, spec.name, "created")
    assert spec.labels.items() <= created.labels.items()
    engine.start(container)
    engine.start(container)  # quiet: it runs already
    running = engine.inspect(container)
    assert running == replace(created, state="running", started_at=running.started_at)
    assert created.started_at == "" != running.started_at
    engine.signal(container, signal.SIGTERM)
    over = ended(engine, container)
    assert over.finished_at > running.started_at
    finished = over.finished_at
    assert over == replace(running, state="exited", exit_code=143, finished_at=finished)


def test_a_container_can_be_started_again(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    container = run(shell(spec, "echo once more; exit 3"))
    first = ended(engine, container)
    engine.start(container)
    wait(lambda: engine.logs(container, 5) == "once more\nonce more\n")
    again = ended(engine, container)
    assert again.exit_code == 3
    assert again.started_at > first.started_at


def test_exit_code_and_last_words_are_reported_every_time(
    engine: ContainerEngine, spec: ContainerSpec
):
    """F13: fifty at once, and removed as soon as they have been read."""

    def live(number: int) -> tuple[int, str]:
        script = f"echo first; echo last words {number}; exit {number}"
        container = engine.create(shell(spec, script, name=f"{spec.name}-{number}"))
        try:
            engine.start(container)
            return ended(engine, container).exit_code, engine.logs(container, 1)
        finally:
            engine.remove(container)

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(live, range(50)))
    assert seen == [(number, f"last words {number}\n") for number in range(50)]


def test_a_program_that_is_not_there_is_told_from_one_that_fails(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    container = create(replace(spec, argv=("no-such-program",)))
    # With an init it is the init that does not find it; without, the engine refuses to start.
    # Podman's ends with 1 and does not say what.
    with contextlib.suppress(CommandMissing):
        engine.start(container)
        code, said = ended(engine, container).exit_code, engine.logs(container, 5)
        assert (code == 127 and "no-such-program" in said) or "failed to exec pid1" in said


# -- signals -----------------------------------------------------------------------------------


def test_a_signal_reaches_the_whole_process_group(
    engine: ContainerEngine, spec: ContainerSpec, run: Make
):
    child = "(trap 'echo told; exit' TERM; echo ready; while :; do sleep 0.1; done)"
    container = run(shell(spec, f"trap : TERM; {child} & while :; do sleep 0.1; done"))
    wait(lambda: "ready" in engine.logs(container, 5))
    assert engine.signal(container, signal.SIGTERM) is True
    wait(lambda: "told" in engine.logs(container, 5))
    assert engine.inspect(container).state == "running"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_what_does_not_run_is_no_error(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, signum: int
):
    """F14: created, exited, removed, never there. Every shutdown begins with a SIGINT."""
    container = create(shell(spec, "exit 3"))
    assert engine.signal(container, signum) is False
    engine.start(container)
    ended(engine, container)
    assert engine.signal(container, signum) is False
    engine.remove(container)
    assert engine.signal(container, signum) is False
    assert engine.signal("never-there", signum) is False


def test_a_paused_container_can_be_ended(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    """F14. Docker takes the signal and resumes the container; Podman says that it cannot."""
    container = run(spec)
    pause(engine, container)
    assert engine.inspect(container).state == "paused"
    if not engine.signal(container, signal.SIGTERM):
        engine.unpause(container)
        engine.signal(container, signal.SIGTERM)
    assert ended(engine, container).exit_code == 143


def test_unpause_is_quiet_when_there_is_nothing_to_do(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    container = create(spec)
    engine.unpause(container)
    engine.start(container)
    engine.unpause(container)
    pause(engine, container)
    engine.unpause(container)
    assert engine.inspect(container).state == "running"
    engine.remove(container)
    engine.unpause(container)


def test_a_killed_container_is_soon_seen_to_have_ended(
    engine: ContainerEngine, spec: ContainerSpec, run: Make
):
    """F15: kill returns before the state has changed; its name is free once it is removed."""
    for _ in range(5):
        container = run(spec)
        engine.signal(container, signal.SIGKILL)
        assert ended(engine, container).exit_code == 137
        engine.remove(container)


# -- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
def test_removing_is_quiet_in_every_state_and_twice(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, state: str
):
    container = in_state(engine, create, spec, state)
    engine.remove(container)
    engine.remove(container)
    engine.remove(spec.name)
    with pytest.raises(ContainerGone):
        engine.inspect(container)


def test_removed_by_two_at_once_is_quiet(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    """F13: the engine tells the second that a removal is in progress."""
    container = run(spec)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(engine.remove, [container] * 4)) == [None] * 4
    assert engine.list_containers(spec.labels) == []


def test_what_is_gone_is_named_as_gone(engine: ContainerEngine):
    for verb in (engine.start, engine.inspect):
        with pytest.raises(ContainerGone, match="never-there"):
            verb("never-there")
    with pytest.raises(ContainerGone):
        engine.upload("never-there", "/", archive("file"))
    with pytest.raises(ContainerGone):
        engine.download("never-there", "/etc/passwd")
    assert engine.logs("never-there", 5) == ""
