"""A Docker engine of the tests' own, to be stopped and started: nobody else's kernels are on it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker

START_SECONDS = 60.0


class OwnEngine:
    """Started with no network of its own: what the default transport needs."""

    def __init__(self, base: Path, *, live_restore: bool) -> None:
        self.base, self._live_restore = base, live_restore
        self.url = f"unix://{base}/docker.sock"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.base / "dockerd.log", "ab") as log:
            self._daemon = subprocess.Popen(
                [
                    # A daemon without a bridge removes the one that it finds: another's docker0.
                    *("unshare", "--net"),
                    "dockerd",
                    f"--host={self.url}",
                    f"--data-root={self.base}/data",
                    f"--exec-root={self.base}/exec",
                    f"--pidfile={self.base}/pid",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip-forward=false",
                    *(["--live-restore"] if self._live_restore else []),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        client = docker.DockerClient(base_url=self.url, version="1.41")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                client.ping()
                break
            except (docker.errors.DockerException, OSError):
                assert time.monotonic() < deadline, (self.base / "dockerd.log").read_text()
                time.sleep(0.1)
        client.close()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signum)
        self._daemon.wait(timeout=START_SECONDS)


@contextmanager
def own_engine(*, live_restore: bool = False, disk: str = "") -> Iterator[OwnEngine]:
    """Runs for as long as the context; all its containers and images go with it.

    `disk` is the size of what it keeps them on, such as ``64m``; empty: the host's disk.
    """
    assert os.getuid() == 0, "an engine of one's own needs root"
    base = Path(tempfile.mkdtemp(prefix="cpe-", dir="/tmp"))
    engine = OwnEngine(base, live_restore=live_restore)
    if disk:
        (base / "data").mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(base / "data")], check=True
        )
    engine.start()
    try:
        yield engine
    finally:
        client = docker.DockerClient(base_url=engine.url, version="1.41")
        for container in client.containers.list(all=True, ignore_removed=True):
            with suppress(docker.errors.NotFound):  # a guard was faster
                container.remove(force=True)
        client.close()
        engine.stop()
        if disk:
            subprocess.run(["umount", "--lazy", str(base / "data")], check=True)
        shutil.rmtree(base, ignore_errors=True)
