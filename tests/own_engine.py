"""A Docker engine of the tests' own, to be stopped and started: nobody else's kernels are on it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from .docker_daemon import DockerDaemon


class OwnEngine(DockerDaemon):
    """Started with no network of its own: what the default transport needs."""

    def __init__(self, base: Path, *, live_restore: bool) -> None:
        super().__init__(base)
        self._live_restore = live_restore
        self.url = f"unix://{base}/docker.sock"

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, version="1.41")

    def command(self) -> list[str]:
        return [
            # A daemon without a bridge removes the one that it finds: another's docker0.
            *("unshare", "--net"),
            "dockerd",
            f"--host={self.url}",
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
            *(["--live-restore"] if self._live_restore else []),
        ]


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
        engine.remove_containers()
        engine.stop()
        engine.remove_files()
