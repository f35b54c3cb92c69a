"""What needs a terminal: a table that renews itself, a log that is followed, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from container_provisioner import labels
from container_provisioner.store import place_id

from .conftest import PLAIN_IMAGE

pytestmark = pytest.mark.docker

SAYS = r"printf 'one\n\033]0;title\007\033[31mred\033[0m\033[2J\n'; sleep 300"


class Terminal:
    """A subcommand in a terminal of its own, and all that it has written there."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "container_provisioner", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it controls
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
        )
        os.close(theirs)
        self.text = ""

    def until(self, pattern: str) -> None:
        deadline = time.monotonic() + 30
        while not re.search(pattern, self.text, re.DOTALL):
            assert time.monotonic() < deadline, self.text
            self.text += os.read(self._ours, 65536).decode()

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        os.write(self._ours, b"\x03")
        return self.process.wait(timeout=30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def kernel(docker_client: docker.DockerClient, runtime_dir: Any) -> Iterator[Any]:
    """A container that says that it is the kernel ``a-kernel``."""
    whose = labels.kernel_labels(
        kernel_id="a-kernel",
        launch_id="a-launch",
        kernel_name="contained",
        uid=os.getuid(),
        owner="",
        place=place_id(),
        on_server_exit="stop",
    )
    container = docker_client.containers.run(
        PLAIN_IMAGE, ["sh", "-c", SAYS], labels=whose, network_mode="none", detach=True
    )
    yield container
    container.remove(force=True)


@pytest.fixture
def terminal() -> Iterator[type[Terminal]]:
    opened: list[Terminal] = []

    class Opened(Terminal):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            opened.append(self)

    yield Opened
    for each in opened:
        each.close()


def test_stats_renew_themselves_until_ctrl_c(kernel: Any, terminal: type[Terminal]) -> None:
    shown = terminal("stats")
    shown.until(r"PROCESSES.*a-kernel.*PROCESSES.*a-kernel[^\r\n]*\d%")
    assert shown.interrupt() == 0
    assert "Traceback" not in shown.text


def test_a_followed_log_ends_with_ctrl_c_as_dockers_does(
    kernel: Any, terminal: type[Terminal]
) -> None:
    """Colours pass; what could play tricks in the terminal does not."""
    shown = terminal("logs", "-f", "a-k")
    shown.until(r"red.*\n")
    assert shown.text == "one\r\n\x1b[31mred\x1b[0m\r\n"
    assert shown.interrupt() == 130
    assert "Traceback" not in shown.text


def test_ps_fits_into_a_terminal(kernel: Any, terminal: type[Terminal]) -> None:
    shown = terminal("ps")
    shown.until("a-kernel")
    assert shown.process.wait(timeout=30) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.text)
    assert all(len(line) <= 120 for line in plain.split("\r\n"))
