"""Kernels that do not start: each one clear error, and nothing left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner.engine.base import ImageInfo
from container_provisioner.errors import (
    ConfigurationError,
    ContainerProvisionerError,
    ImageMissing,
    KernelDied,
    PullFailed,
    RuntimeMissing,
    StartTimeout,
    UserRefused,
    WorkspaceError,
)
from container_provisioner.store import KernelDirectory

from ..fake_container import Gate, make_socket
from .conftest import Launches


@pytest.mark.parametrize(
    ("stanza", "error", "words"),
    [
        (
            {"argv": ["sh", "-c", "echo first; echo last words; exit 3"]},
            KernelDied,
            "it ended with exit code 3.*Last output: first | last words",
        ),
        ({"argv": ["sh", "-c", "kill -9 $$"]}, KernelDied, "ended by SIGKILL .*exit code 137"),
        ({"argv": ["no-such-kernel"]}, KernelDied, "image 'kernel:1' has no command"),
        ({"image": "none:1"}, PullFailed, "'none:1' is not present and could not be pulled"),
        ({"image": "none:1", "pull_policy": "never"}, ImageMissing, "'none:1' is not present"),
        ({"runtime": "runsc"}, RuntimeMissing, "no runtime 'runsc'.*Nothing was started"),
        ({"mounts": ["/no/such:/data"]}, WorkspaceError, "'/no/such' does not exist"),
        ({"user": "0"}, UserRefused, "user='0' is root"),
        ({"transport": "network"}, ConfigurationError, "transport 'network' needs a network"),
        ({"network": "host"}, ConfigurationError, "network 'host'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_cannot_start_says_why(
    launches: Launches, stanza: dict[str, Any], error: type[Exception], words: str
):
    launches.fake.on_start = lambda container: None
    with pytest.raises(error, match=words) as caught:
        await launches.start(**stanza)
    (manager,) = launches.managers
    assert isinstance(caught.value, ContainerProvisionerError)
    assert caught.value.kernel_id == manager.kernel_id
    assert str(caught.value).startswith(f"Kernel {manager.kernel_id}: ")
    assert not manager.has_kernel
    assert launches.left() == []


async def test_a_kernel_that_opens_no_socket_is_removed_in_time(launches: Launches):
    """F36: many kernels that are not Python do not speak ipc."""
    launches.fake.on_start = lambda container: None
    with pytest.raises(StartTimeout) as caught:
        await launches.start(start_timeout=0.3, argv=["sh", "-c", "echo I use tcp; sleep 300"])
    message = str(caught.value)
    assert "The kernel opened no channels within 0.3 s (start_timeout) and was removed." in message
    assert "needs transport='tcp'." in message
    assert message.endswith("Last output: I use tcp")
    assert launches.left() == []


async def test_some_sockets_are_not_enough(launches: Launches):
    """F36: all five channels, or it is not up."""

    def opens_two(container: Any) -> None:
        sockets = KernelDirectory.of(launches.managers[0].kernel_id).sockets
        for port in (1, 2):
            make_socket(sockets / f"k-{port}")

    launches.fake.on_start = opens_two
    with pytest.raises(StartTimeout):
        await launches.start(start_timeout=0.3)
    assert launches.left() == []


class LeavesSockets(AsyncKernelManager):
    def cleanup_ipc_files(self) -> None:
        pass


async def test_sockets_of_the_run_before_prove_nothing(launches: Launches):
    """F36: a restart in place removes what the killed kernel left, if the manager did not."""
    manager = await launches.start(start_timeout=0.5, kind=LeavesSockets)
    launches.fake.on_start = lambda container: None
    with pytest.raises(StartTimeout):
        await manager.restart_kernel(now=True)
    assert launches.left() == []


async def test_a_pull_that_takes_too_long_is_given_up(launches: Launches):
    launches.fake.registry["slow:1"] = ImageInfo(id="sha256:slow", user="1000")
    gate = launches.fake.before["pull"] = Gate()
    with pytest.raises(PullFailed, match=r"not finished after 0\.2 s \(pull_timeout\)"):
        await launches.start(image="slow:1", pull_timeout=0.2)
    gate.release()
    assert launches.left() == []


async def test_a_pull_does_not_count_towards_the_start(launches: Launches):
    launches.fake.registry["slow:1"] = ImageInfo(id="sha256:slow", user="1000")
    launches.fake.before["pull"] = lambda: time.sleep(1)
    manager = await launches.start(image="slow:1", start_timeout=0.9)
    assert await manager.is_alive()


# -- where the sockets are ---------------------------------------------------------------------


@pytest.fixture
def short_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cp-", dir="/tmp") as path:
        yield Path(path)


async def test_a_long_runtime_directory_is_not_used_for_sockets(
    launches: Launches, short_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    """F36: a socket's path has room for 107 bytes; 200 are taken already."""
    long_dir = short_dir / ("a" * 100) / ("b" * 100)
    long_dir.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(long_dir))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    manager = await launches.start()
    assert manager.ip.startswith(f"{short_dir}/container-provisioner/")
    assert len(f"{manager.ip}-5".encode()) <= 107
    assert await manager.is_alive()
    await manager.restart_kernel(now=True)
    await manager.shutdown_kernel(now=True)
    assert launches.left() == []
    assert list((short_dir / "container-provisioner").iterdir()) == []
