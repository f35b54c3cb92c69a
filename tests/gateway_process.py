"""A real Jupyter Kernel Gateway in a process of its own: kernels for programs, without a page."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from .server_process import TIMEOUT, TOKEN, Server, eventually

# It tries others when somebody has this one, and says which it has.
FIRST_PORT = 21800

_LISTENS = re.compile(r"Jupyter Kernel Gateway \S+ is available at (\S+)")


@dataclass
class Gateway(Server):
    """Speaks to its kernels as `Server` does. `address` is its log."""

    @property
    def url(self) -> str:
        found = _LISTENS.search(self.address.read_text())
        return f"{found[1]}/" if found else ""

    @property
    def answers(self) -> bool:
        try:
            return bool(self.url) and requests.get(self.url, timeout=TIMEOUT).status_code < 500
        except requests.ConnectionError:
            return False


@contextlib.contextmanager
def kernel_gateway(
    runtime_dir: Path, folder: Path, *options: str, **environment: str
) -> Iterator[Gateway]:
    """Start one in `folder`; at the end it is terminated, if it still runs."""
    log_file = runtime_dir.parent / "gateway.log"
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "kernel_gateway"),
                f"--KernelGatewayApp.port={FIRST_PORT}",
                *options,
            ],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KG_AUTH_TOKEN": TOKEN, **environment},
        )
    gateway = Gateway(process, log_file, folder, log_file)
    try:
        eventually(lambda: gateway.answers or process.poll() is not None, "the gateway to listen")
        assert process.poll() is None, gateway.log
        yield gateway
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=TIMEOUT)
        process.kill()
        process.wait()
