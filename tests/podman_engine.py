"""Podman for the tests: its configuration for this machine, and who serves it."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from container_provisioner.engine.podman_service import PodmanService, ServiceAdapter

CONTAINERS_CONF = "CONTAINERS_CONF"  # names the file that Podman reads instead of the machine's


@contextmanager
def podman_configured() -> Iterator[None]:
    """As this machine needs it, unless whoever runs the tests knows better."""
    if CONTAINERS_CONF in os.environ:
        yield
        return
    assert shutil.which("podman"), "There is no podman. 'scripts/engine podman' installs it."
    ulimits = [
        f'"{name}={limit}:{limit}"'
        for name, limit in (
            ("nofile", min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)),
            ("nproc", min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 32768)),
        )
        if limit > 0  # -1 is none
    ]
    lines = ["[containers]", f"default_ulimits = [{', '.join(ulimits)}]", "[engine]"]
    if not Path("/run/systemd/system").is_dir():
        lines += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    if shutil.which("runc") and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        lines.append('runtime = "runc"')  # crun wants the cgroups of version 2
    with tempfile.TemporaryDirectory(prefix="cp-podman-") as folder:
        file = Path(folder, "containers.conf")
        file.write_text("\n".join(lines) + "\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CONTAINERS_CONF, str(file))
            yield


@contextmanager
def podman_service(*, idle: int = 5) -> Iterator[PodmanService]:
    """One of the tests' own: in a folder of its own, and soon tired of waiting."""
    with (
        podman_configured(),
        tempfile.TemporaryDirectory(prefix="cp-podman-", dir="/tmp") as folder,
    ):
        yield PodmanService(Path(folder), idle=idle)


def podman_client(service: PodmanService) -> docker.DockerClient:
    """The SDK beside ours, to look from outside. It starts the service as ours does."""
    service.ensure()
    client = docker.DockerClient(base_url=service.url, version="1.41")
    client.api.mount("http+docker://", ServiceAdapter(service))
    return client
