"""Warm pools that another process keeps: the command ``jupyter container-kernel warm``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import docker
import pytest

from container_provisioner import labels
from container_provisioner.store import Offers

from .ends import left_of_kernels
from .server_process import eventually

SETTLED_SECONDS = 20.0  # for the guard, after a death


@dataclass
class Keeper:
    """The process, and the lines that it has printed."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def full(self, line: str) -> None:
        """Wait until it has said so."""
        eventually(lambda: line in self.lines or self.process.poll() is not None, line)
        assert line in self.lines

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, signum: int) -> tuple[int, str]:
        """The exit code, and all that it wrote on standard error."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        assert self.process.stderr is not None
        code = self.process.wait(timeout=60)
        return code, self.process.stderr.read()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


class StartKeeper(Protocol):
    def __call__(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Keeper: ...


@pytest.fixture(name="start_keeper")
def start_keeper_fixture(runtime_dir: Path, folder: Path) -> Iterator[StartKeeper]:
    """Start ``warm`` with these arguments, in the test's folder; killed at the end."""
    started: list[Keeper] = []

    def start(*arguments: str, cwd: Path | None = None, **environment: str) -> Keeper:
        process = subprocess.Popen(
            [sys.executable, "-m", "container_provisioner", "warm", *arguments],
            cwd=cwd or folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(Keeper(process))
        threading.Thread(target=started[-1]._read, daemon=True).start()
        return started[-1]

    yield start
    for keeper in started:
        keeper.process.kill()
        keeper.process.wait()
        for stream in (keeper.process.stdout, keeper.process.stderr):
            assert stream is not None
            stream.close()


def container_of(docker_client: docker.DockerClient, kernel_id: str) -> Any:
    """The kernel's, warm or not; None when there is none."""
    try:
        return docker_client.containers.get(labels.container_name(kernel_id))
    except docker.errors.NotFound:
        return None


def waiting() -> list[str]:
    """Names of the containers that wait, whoever keeps them."""
    return [offer.name for offer in Offers().all()]


@pytest.fixture(name="nothing_stays")
def nothing_stays_fixture(
    our_containers: Callable[[], list[str]], runtime_dir: Path
) -> Callable[[], None]:
    """Wait until the guard has removed every container, and all that was some kernel's."""
    return lambda: eventually(
        lambda: not our_containers() and not left_of_kernels(runtime_dir),
        "everything to go",
        SETTLED_SECONDS,
    )
