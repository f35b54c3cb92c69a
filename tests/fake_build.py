"""The fake engine's builder: enough of a Dockerfile to tell one that works from one that fails.

``FROM`` wants an image that is there, ``COPY`` a file of the context, and ``RUN`` runs on this
host, as this user.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from container_provisioner.engine.base import BuildProgress, BuildRequest, BuildStep
from container_provisioner.errors import BuildFailed

if TYPE_CHECKING:
    from .fake_engine import FakeEngine


class FakeBuild:
    def __init__(self, engine: FakeEngine, request: BuildRequest) -> None:
        self._engine, self._request = engine, request
        self._cancelled = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def run(self, progress: BuildProgress) -> str:
        image = self._request.image
        with tempfile.TemporaryDirectory() as name, closing(self._request.context) as context:
            folder = Path(name)
            with tarfile.open(fileobj=context) as members:
                members.extractall(folder, filter="data")
            text = (folder / self._request.dockerfile).read_text()
            instructions = [line.split(maxsplit=1) for line in text.splitlines() if line]
            for number, (word, rest) in enumerate(instructions, 1):
                step = BuildStep(
                    number=number, total=len(instructions), instruction=f"{word} {rest}"
                )
                progress(step)
                if self._cancelled.is_set():
                    raise BuildFailed(image, "it was cancelled")
                getattr(self, f"_{word.lower()}", self._unknown)(rest, step, folder, progress)
        if self._cancelled.is_set():
            raise BuildFailed(image, "it was cancelled")
        self._engine.add_image(image, labels=self._request.labels)
        return self._engine.images[image].id

    def cancel(self) -> None:
        self._cancelled.set()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _from(self, image: str, step: BuildStep, folder: Path, progress: BuildProgress) -> None:
        if image not in self._engine.images:
            raise BuildFailed(self._request.image, f"{step.instruction!r}, no such image")

    def _copy(self, paths: str, step: BuildStep, folder: Path, progress: BuildProgress) -> None:
        if not (folder / paths.split()[0]).exists():
            raise BuildFailed(self._request.image, f"{step.instruction!r}, file not found")

    def _arg(self, name: str, step: BuildStep, folder: Path, progress: BuildProgress) -> None:
        pass

    def _run(self, command: str, step: BuildStep, folder: Path, progress: BuildProgress) -> None:
        environment: Mapping[str, str] = {"PATH": "/usr/bin:/bin", **self._request.arguments}
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec 2>&1; {command}"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line.rstrip())
            progress(replace(step, line=line.rstrip()))
        if (code := self._process.wait()) and not self._cancelled.is_set():
            raise BuildFailed(
                self._request.image,
                f"step {step.number} of {step.total}, {step.instruction!r}, ended with exit code "
                f"{code}.",
                lines,
            )

    def _unknown(self, rest: str, step: BuildStep, folder: Path, progress: BuildProgress) -> None:
        raise BuildFailed(self._request.image, "unknown instruction")


def unique_image() -> str:
    """A name for an image that a test builds."""
    return f"container-provisioner-test/built:{uuid.uuid4().hex[:12]}"
