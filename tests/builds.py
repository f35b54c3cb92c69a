"""``jupyter container-kernel build`` as a process of its own, for the tests of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from .fake_build import unique_image

COMMAND = (sys.executable, "-m", "container_provisioner")


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


@pytest.fixture(name="image")
def image_fixture(docker_client: docker.DockerClient) -> Iterator[str]:
    image = unique_image()
    yield image
    with contextlib.suppress(docker.errors.ImageNotFound):
        docker_client.images.remove(image)


def is_there(client: docker.DockerClient, image: str) -> bool:
    return bool(client.images.list(filters={"reference": image}))


def write(folder: Path, *lines: str) -> str:
    (folder / "Dockerfile").write_text("\n".join(lines))
    return str(folder)
