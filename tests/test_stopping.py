"""A server that is told to stop."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

import pytest

from .conftest import WriteKernelspec
from .ends import left_of_kernels
from .server_process import eventually, jupyter_server

pytestmark = pytest.mark.docker


def test_a_server_whose_shutdown_failed_stops_when_it_is_told_again(
    kernelspec: WriteKernelspec, runtime_dir: Path, folder: Path
):
    """F12: jupyter_server 2.21 remembers a start that failed, trips over it and does not stop."""
    kernelspec("good")
    kernelspec("bad", image="no-such/image:1", pull_policy="never")
    with jupyter_server(runtime_dir, folder) as server:
        server.start("good", path="")
        assert server.call("POST", "kernels", name="bad").status_code == 500
        server.process.terminate()
        eventually(lambda: server.lines("Kernel does not exist"), "it to trip")
        eventually(lambda: left_of_kernels(runtime_dir) == [], "its kernel to end")
        # That kernel's shutdown may still be under way, and the server trip over this one too.
        for _ in range(5):
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.stop(timeout=2)
                break
        # By itself, or by the signal, when that comes after its last handler has gone.
        assert server.process.returncode in (0, -signal.SIGTERM)
