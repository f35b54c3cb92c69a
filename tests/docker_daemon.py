"""A docker daemon of the tests' own: started, waited for, stopped and cleared away."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import docker

START_SECONDS = 60.0


class DockerDaemon(ABC):
    """Everything of it is below `base`. Where it listens, a subclass says."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._daemon: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def client(self) -> docker.DockerClient: ...

    @abstractmethod
    def command(self) -> list[str]:
        """Without the options that say where its files are."""

    def start(self) -> None:
        with open(self.base / "dockerd.log", "ab") as log:
            self._daemon = subprocess.Popen(
                [
                    *self.command(),
                    f"--data-root={self.base}/data",
                    f"--exec-root={self.base}/exec",
                    f"--pidfile={self.base}/pid",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        client = self.client()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                client.ping()
                break
            except (docker.errors.DockerException, OSError):
                log_end = (self.base / "dockerd.log").read_text()[-2000:]
                assert time.monotonic() < deadline, log_end
                time.sleep(0.1)
        client.close()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signum)
        self._daemon.wait(timeout=START_SECONDS)

    def remove_containers(self) -> None:
        client = self.client()
        for container in client.containers.list(all=True, ignore_removed=True):
            with suppress(docker.errors.NotFound):  # a guard was faster
                container.remove(force=True, v=True)
        client.close()

    def remove_files(self) -> None:
        """Once it has stopped. Also its disk, and what a daemon mounts over it and leaves when it
        is killed."""
        while f" {self.base}/data " in Path("/proc/self/mounts").read_text():
            subprocess.run(["umount", "--lazy", str(self.base / "data")], check=True)
        shutil.rmtree(self.base, ignore_errors=True)
