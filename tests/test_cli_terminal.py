"""What needs a terminal: a table that renews itself, a log that is followed, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import socket
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

    def type(self, keys: bytes, within: float = 30) -> int:
        """The exit code that comes of it."""
        os.write(self._ours, keys)
        return self.process.wait(timeout=within)

    def interrupt(self, within: float = 30) -> int:
        """Ctrl-C; the exit code."""
        return self.type(b"\x03", within)

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


def test_who_says_no_is_told_that_nothing_was_done(kernel: Any, terminal: type[Terminal]) -> None:
    shown = terminal("kill", "--all")
    shown.until(r"Kill a-kernel\? \[y/N\]: ")
    assert shown.type(b"n\n") == 1
    shown.until("Nothing was killed\\.")
    shown = terminal("kill", "--all")
    shown.until(r"Kill a-kernel\? \[y/N\]: ")
    assert shown.interrupt() == 130
    shown.until(r"\^C\r\n$")
    kernel.reload()
    assert kernel.status == "running"


def test_an_error_is_folded_between_words(terminal: type[Terminal], runtime_dir: Any) -> None:
    url = f"unix://{runtime_dir}/none.sock"
    shown = terminal("ps", "--engine-url", url)
    assert shown.process.wait(timeout=30) == 4
    shown.until(r"another\s+one\.")
    lines = [line.rstrip() for line in shown.text.split("\r\n")]
    assert len(lines) > 1
    assert max(map(len, lines)) <= 120
    assert f"Tried: {url} (no such file or directory). Is it installed" in " ".join(lines)


def test_ctrl_c_ends_the_waiting_for_a_silent_engine(
    terminal: type[Terminal], runtime_dir: Any
) -> None:
    """At once, not when the engine's time is over."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{runtime_dir}/silent.sock")
        silent.listen()
        shown = terminal("ps", "--engine-url", f"unix://{runtime_dir}/silent.sock")
        shown.until(r"Waiting for the engine at unix://\S+…")
        assert shown.interrupt(within=10) == 130
        assert "Traceback" not in shown.text
