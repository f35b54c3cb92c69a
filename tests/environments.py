"""Virtual environments that have the built wheel, as a stranger would get it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment in which nothing of the one that runs the tests can be seen."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def run(self, *command: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """A command as its user types it; the environment is active. It has to succeed."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PATH": path, "VIRTUAL_ENV": str(self.folder)},
            **kwargs,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


def make_environment(folder: Path, wheel: Path, *options: str) -> Environment:
    """Install the wheel and, by uv's `options`, what it needs into a new environment."""
    _uv("venv", "--python", sys.executable, str(folder))
    environment = Environment(folder=folder)
    _uv("pip", "install", "--python", environment.python, "--only-binary=:all:", *options, wheel)
    # Kernels of a server that runs as root are somebody else, and read it.
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return environment


def _uv(*arguments: str | Path) -> None:
    # uv brings its own certificate authorities; pip may have been told of others.
    trusted = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments],
        check=True,
        cwd=CHECKOUT,
        timeout=170,
        env={**trusted, **os.environ},
    )
