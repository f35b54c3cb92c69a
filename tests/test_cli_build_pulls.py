"""``jupyter container-kernel build`` and a base that is pulled: what is shown, what is taken."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest

from .builds import COMMAND, image_fixture, is_there, run, write  # noqa: F401 - a fixture
from .conftest import PLAIN_IMAGE
from .registry import Registry, layer, noise

pytestmark = pytest.mark.docker


def on_a_terminal(arguments: list[str], act: Any = None) -> tuple[int, str]:
    """Exit code, and what a terminal of 100 columns got from standard error."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [*COMMAND, *arguments],
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    if act is not None:
        act(command)
    parts = []
    while True:
        try:
            parts.append(os.read(ours, 65536))
        except OSError:  # the last of them has closed it
            break
    os.close(ours)
    return command.wait(60), b"".join(parts).decode()


def test_the_pull_of_a_base_is_told_in_lines_and_drawn_on_a_terminal(
    registry: Registry, docker_client: docker.DockerClient, tmp_path: Path, image: str
):
    bases = [registry.add(noise(), layer({"a": b"a"})) for _ in "12"]
    for base in bases:
        write(tmp_path, f"ARG BASE={base}", "FROM ${BASE}", "COPY Dockerfile /")
        arguments = ["build", str(tmp_path), "--tag", image]
        with contextlib.suppress(docker.errors.ImageNotFound):
            docker_client.images.remove(image)  # of the other base; without it nobody would
        if base == bases[0]:
            built = run(*arguments)
            assert built.returncode == 0, built.stderr
            lines = built.stderr.splitlines()
            assert lines[1] == f"Pulling {base}…"
            assert re.match(rf"Pulled {re.escape(base)} \(2 layers, [\d.]+ KiB\) in ", lines[2])
            assert "\x1b" not in built.stderr
        else:
            status, shown = on_a_terminal(arguments)
            assert status == 0
            assert f"Pulling {base}" in shown
            assert "of 2 layers" in shown
            assert "━" in shown
            assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
            assert f"Pulled {base} (2 layers, " in shown


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_ctrl_c_in_a_pull_is_one_line_and_nothing_is_left(
    registry: Registry,
    docker_client: docker.DockerClient,
    tmp_path: Path,
    image: str,
    terminal: bool,
):
    base = registry.add(noise())
    write(tmp_path, f"ARG BASE={base}", "FROM ${BASE}")
    registry.open.clear()

    def interrupt(command: subprocess.Popen[Any]) -> None:
        assert registry.stalled.wait(30)
        command.send_signal(signal.SIGINT)

    arguments = ["build", str(tmp_path), "--tag", image]
    if terminal:
        status, shown = on_a_terminal(arguments, interrupt)
        shown = shown.replace("\r\n", "\n")
    else:
        command = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
        interrupt(command)
        _, shown = command.communicate(timeout=60)
        status = command.returncode
    assert status == 130
    assert shown.endswith(f"Interrupted: {base} was not pulled.\n")
    assert "Traceback" not in shown
    # The engine does not go on by itself, not even when the registry does: what is asked for after
    # that comes first.
    registry.open.set()
    docker_client.images.pull(registry.add(noise()))
    assert not is_there(docker_client, base)
    assert not is_there(docker_client, image)


def test_a_base_of_a_registry_is_taken_by_its_digest(
    registry: Registry, docker_client: docker.DockerClient, tmp_path: Path, image: str
):
    """What is told brings the same base back, whatever has the tag by then."""
    base = registry.add(noise())
    arguments = ["build", write(tmp_path, f"ARG BASE={base}", "FROM ${BASE}", "COPY Dockerfile /")]
    arguments += ["--tag", image]
    built = run(*arguments)
    assert built.returncode == 0, built.stderr
    told = re.search(r"^'--base (\S+)' builds it upon the same base again\.$", built.stderr, re.M)
    assert told is not None
    (pinned,) = docker_client.images.get(base).attrs["RepoDigests"]
    assert told[1] == pinned
    layers = docker_client.images.get(base).attrs["RootFS"]["Layers"]
    assert json.loads(run(*arguments, "--json").stdout)["base"] == pinned  # not only when pulled
    for name in (image, base, pinned):
        with contextlib.suppress(docker.errors.ImageNotFound):
            docker_client.images.remove(name)
    try:
        again = run(*arguments, "--base", pinned, "--json")
        assert json.loads(again.stdout)["base"] == pinned
        assert f"Pulled {pinned} (1 layer, " in again.stderr
        assert docker_client.images.get(image).attrs["RootFS"]["Layers"][:1] == layers
    finally:
        docker_client.images.remove(pinned)


def test_a_base_of_no_registry_is_taken_by_its_name(tmp_path: Path, image: str):
    folder = write(tmp_path, f"ARG BASE={PLAIN_IMAGE}", "FROM ${BASE}", "COPY Dockerfile /")
    built = run("build", folder, "-t", image, "--json")
    assert json.loads(built.stdout)["base"] == PLAIN_IMAGE
