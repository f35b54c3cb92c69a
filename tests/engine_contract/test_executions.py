"""Commands in a running container, whoever the engine is."""

from __future__ import annotations

import threading

import pytest

from container_provisioner.engine.base import ContainerEngine, Execution
from container_provisioner.errors import EngineError
from container_provisioner.spec import ContainerSpec

from .conftest import Make, pause

GO = b"go\n"


def execute(engine: ContainerEngine, container: str, script: str) -> Execution:
    return engine.execute(container, ("sh", "-c", f"read go; {script}"))


def test_a_command_reads_and_answers(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    """More than any pipe or frame holds, in both directions at once."""
    execution = execute(engine, run(spec), "cat; echo some words >&2; exit 3")
    sent = bytes(range(256)) * 2**13

    def send() -> None:
        execution.send(GO + sent)
        execution.end_input()

    sender = threading.Thread(target=send)
    sender.start()
    assert b"".join(execution) == sent
    sender.join()
    assert (execution.errors(), execution.exit_code()) == ("some words\n", 3)
    execution.close()


def test_a_command_that_is_not_there(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    execution = engine.execute(run(spec), ("no-such-command",))
    b"".join(execution)
    assert execution.exit_code() in (126, 127)
    execution.close()


def test_closing_ends_a_read_in_another_thread(
    engine: ContainerEngine, spec: ContainerSpec, run: Make
):
    execution = execute(engine, run(spec), "echo begins; exec cat")
    execution.send(GO)
    pieces = iter(execution)
    assert next(pieces) == b"begins\n"
    reader = threading.Thread(target=lambda: list(pieces))
    reader.start()
    execution.close()
    reader.join(20)
    assert not reader.is_alive()


@pytest.mark.parametrize("state", ["created", "paused"])
def test_only_a_running_container_has_commands(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, state: str
):
    container = create(spec)
    if state == "paused":
        engine.start(container)
        pause(engine, container)
    with pytest.raises(EngineError):
        engine.execute(container, ("true",))
