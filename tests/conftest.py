"""Fixtures: kernelspecs that name the provisioner, real kernels, and nothing left behind.

`--run-docker` and `--run-podman` opt in to the tests that need one. Asked for and absent is a
failure.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

import docker
import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import labels
from container_provisioner.engine.find import close_engines

from .parallel import ByFile, Turn
from .registry import Registry, serve
from .remote_engine import RemoteEngine, remote_engine

IMAGE = "container-provisioner-test/kernel:1"
PLAIN_IMAGE = "container-provisioner-test/plain:1"  # Python, no kernel
ENTRYPOINT_IMAGE = "container-provisioner-test/entrypoint:1"  # swallows its command
ROOT_IMAGE = "container-provisioner-test/root:1"  # USER 0
R_IMAGE = "container-provisioner-test/r:1"  # as is the next, of images/
BASH_IMAGE = "container-provisioner-test/bash:1"

IPYKERNEL = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]

TURN = pytest.StashKey[Turn]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-docker", action="store_true", help="run the tests that need an engine")
    parser.addoption("--run-podman", action="store_true", help="run those that need Podman")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker: needs a container engine (--run-docker)")
    config.addinivalue_line("markers", "podman: needs Podman (--run-podman)")
    config.addinivalue_line("markers", "alone: looks at what is everybody's on the engine")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell's background job is started; what the tests start would not hear of Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for engine in ("docker", "podman"):
        if config.getoption(f"--run-{engine}"):
            continue
        skip = pytest.mark.skip(reason=f"needs --run-{engine}")
        for item in items:
            if item.get_closest_marker(engine):
                item.add_marker(skip)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout starts to count
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, bool, bool]:
    """A file is a turn: what its fixtures have started may be alive between two of its tests."""
    turn = item.config.stash.setdefault(TURN, Turn())
    turn.begin(alone=item.get_closest_marker("alone") is not None)
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            turn.end()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failing test shows the state and the last lines of our containers."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and "docker" in item.keywords:
        report.sections.append(("containers", _containers_state()))


def _containers_state() -> str:
    client = docker.from_env()
    try:
        return "\n".join(
            f"{c.name} {c.status}\n{c.logs(tail=5).decode(errors='replace')}"
            for c in client.containers.list(all=True, filters={"label": labels.KERNEL_ID})
        )
    except docker.errors.DockerException as exc:
        return f"cannot be listed: {exc}"
    finally:
        client.close()


@contextmanager
def own_jupyter() -> Iterator[Path]:
    """A Jupyter of its own: nothing of the user's is read, nothing is written there.

    Yields the runtime directory. A fixture of any scope can use it.
    """
    # Not tmp_path: a unix socket's path has room for 107 bytes.
    base = Path(tempfile.mkdtemp(prefix="cp-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(base / "runtime"))
        patch.setenv("JUPYTER_DATA_DIR", str(base / "data"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(base / "config"))
        patch.setenv("JUPYTER_PATH", str(base / "path"))
        patch.setenv("IPYTHONDIR", str(base / "ipython"))
        for name in [name for name in os.environ if name.startswith("CONTAINER_PROVISIONER_")]:
            patch.delenv(name)
        (base / "runtime").mkdir(mode=0o700)
        try:
            yield base / "runtime"
        finally:
            _remove_kept(base / "runtime")
            shutil.rmtree(base, ignore_errors=True)


def _remove_kept(runtime_dir: Path) -> None:
    """What a failed test left: kept kernels end with nobody. (The guard ends with its folder.)"""
    place = runtime_dir / "container-provisioner" / "place"
    if not place.exists():
        return
    client = docker.from_env()
    try:
        label = f"{labels.PLACE}={place.read_text()}"
        for container in client.containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        ):
            container.remove(force=True)
    except docker.errors.DockerException as exc:
        logging.getLogger(__name__).warning("Kept kernels may be left: %s", exc)
    finally:
        client.close()


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A notebook's folder, which anybody may read (pytest's tmp_path is for its owner only)."""
    path = Path(tempfile.mkdtemp(prefix="notebooks-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_kernelspec(
    runtime_dir: Path,
    name: str = "contained",
    *,
    argv: list[str] | None = None,
    spec: dict[str, Any] | None = None,
    stanza: bool = True,
    **config: Any,
) -> str:
    """Write a kernelspec; its stanza's ``config`` is the keyword arguments. Returns its name."""
    provisioner = {"provisioner_name": "container-provisioner", "config": config}
    body = {
        "argv": argv or IPYKERNEL,
        "display_name": name,
        "language": "python",
        "metadata": {
            "debugger": True,
            "supported_encryption": ["curve"],
            **({"kernel_provisioner": provisioner} if stanza else {}),
        },
        **(spec or {}),
    }
    target = runtime_dir.parent / "path" / "kernels" / name / "kernel.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(body))
    return name


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    with own_jupyter() as path:
        yield path


@pytest.fixture
def folder() -> Iterator[Path]:
    with shared_folder() as path:
        yield path


WriteKernelspec = Callable[..., str]


@pytest.fixture
def kernelspec(runtime_dir: Path) -> WriteKernelspec:
    """`write_kernelspec`, for this test's Jupyter."""
    return partial(write_kernelspec, runtime_dir)


@dataclass
class Kernel:
    """A started kernel with a connected client."""

    manager: AsyncKernelManager
    client: AsyncKernelClient

    @property
    def provisioner(self) -> Any:
        return self.manager.provisioner

    @property
    def container_id(self) -> str:
        return str(self.provisioner._container.identity.container_id)

    async def run(self, code: str, timeout: float = 30, **kwargs: Any) -> str:
        """Execute; what it printed, its result's text, and the names of its errors."""
        parts: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                parts.append(content["text"])
            elif message["msg_type"] == "execute_result":
                parts.append(content["data"]["text/plain"])
            elif message["msg_type"] == "error":
                parts.append(f"{content['ename']}: {content['evalue']}")

        kwargs.setdefault("output_hook", collect)
        # Else a kernel that is short of time may skip what comes next, because this failed.
        kwargs.setdefault("stop_on_error", False)
        await self.client.execute_interactive(code, timeout=timeout, **kwargs)
        return "".join(parts)

    async def ready(self, timeout: float = 30) -> None:
        """As the client's `wait_for_ready`, which waits for a fifth of a second of silence besides.

        All that the kernel says about one request ends with ``idle``.
        """
        deadline = time.monotonic() + timeout
        while True:
            request = self.client.kernel_info()
            try:
                await self._hear(self.client.get_shell_msg, 1.0, request, "kernel_info_reply")
                await self._hear(self.client.get_iopub_msg, 0.2, request, "idle")
            except Empty:  # or it was said before the subscription
                if self.manager is not None and not await self.manager.is_alive():
                    raise RuntimeError("Kernel died before replying to kernel_info") from None
                if time.monotonic() > deadline:
                    raise RuntimeError(f"Kernel didn't respond in {timeout:g} seconds") from None
            else:
                return

    async def _hear(
        self, get: Callable[..., Awaitable[Any]], seconds: float, request: str, what: str
    ) -> None:
        """Wait for that message or status about a request. `Empty` after a silence of `seconds`."""
        heard = None
        while heard != (request, what):
            message = await get(timeout=seconds)
            status = message["content"].get("execution_state")
            parent = message["parent_header"] or {}  # null in what xeus says by itself
            heard = (parent.get("msg_id"), status or message["msg_type"])

    async def restart(self, **kwargs: Any) -> None:
        await self.manager.restart_kernel(**kwargs)
        self.reconnect()
        await self.ready()

    def reconnect(self) -> None:
        """A new client: addresses may have changed."""
        self.client.stop_channels()
        self.client = self.manager.client()
        self.client.start_channels()


StartKernel = Callable[..., Awaitable[Kernel]]


@pytest.fixture
async def start_kernel(kernelspec: WriteKernelspec, folder: Path) -> AsyncIterator[StartKernel]:
    """Start a kernel with the stanza's settings; shut down at the end, and nothing may be left.

    Keyword arguments: ``launch`` for `start_kernel`, ``manager`` for the manager, ``argv`` and
    ``spec`` for the kernelspec; all others are the stanza's config.
    """
    started: list[Kernel] = []

    async def start(
        *,
        launch: dict[str, Any] | None = None,
        manager: dict[str, Any] | None = None,
        ready: bool = True,
        **stanza: Any,
    ) -> Kernel:
        name = kernelspec(f"contained-{len(started)}", **stanza)
        km = AsyncKernelManager(kernel_name=name, log=logging.getLogger("jupyter"), **manager or {})
        await km.start_kernel(**{"cwd": str(folder), **(launch or {})})
        client = km.client()
        client.start_channels()
        kernel = Kernel(km, client)
        started.append(kernel)
        if ready:
            await kernel.ready()
        return kernel

    yield start
    for kernel in started:
        kernel.client.stop_channels()
        await kernel.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """The SDK, beside ours: to look from outside, and to do what an operator does."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def server_image(docker_client: docker.DockerClient) -> str:
    """A Jupyter Server with this package, as examples/compose says how it is built."""
    name = "container-provisioner-test/compose:1"
    docker_client.images.build(
        path=str(Path(__file__).parent.parent),
        dockerfile="examples/compose/Dockerfile",
        tag=name,
        buildargs={"BASE": "container-provisioner-test/server:1"},
        network_mode="none",
        rm=True,
        forcerm=True,
    )
    return name


@pytest.fixture(scope="session")
def remote() -> Iterator[RemoteEngine]:
    """An engine on another host."""
    with remote_engine() as engine:
        engine.load(IMAGE)
        yield engine


@pytest.fixture
def there(remote: RemoteEngine) -> Iterator[docker.DockerClient]:
    """To look at the engine from outside. Nothing is left on it."""
    client = remote.client()
    yield client
    deadline = time.monotonic() + 30  # a guard may be at it
    while client.containers.list(all=True) or len(client.networks.list()) > 3:
        assert time.monotonic() < deadline, "something is left there"
        time.sleep(0.05)
    assert client.volumes.list() == []
    client.close()


@pytest.fixture
def registry(docker_client: docker.DockerClient) -> Iterator[Registry]:
    """A registry to pull from, which offers what the test adds."""
    with serve(docker_client) as offered:
        yield offered


@pytest.fixture
def our_containers(
    docker_client: docker.DockerClient, runtime_dir: Path
) -> Callable[[], list[str]]:
    """Names of all containers of this test's Jupyter, ended ones too."""

    def is_ours(container: Any) -> bool:
        mounts = container.attrs["HostConfig"].get("Mounts") or ()
        return any(mount.get("Source", "").startswith(str(runtime_dir)) for mount in mounts)

    def names() -> list[str]:
        found = docker_client.containers.list(
            all=True, filters={"label": labels.KERNEL_ID}, ignore_removed=True
        )
        return [str(container.name) for container in found if is_ours(container)]

    return names


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No container of a kernel outlives the test that made it."""
    if "docker" not in request.keywords or not request.config.getoption("--run-docker"):
        yield
        return
    names = request.getfixturevalue("our_containers")
    before = set(names())
    yield
    left = set(names()) - before
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session", autouse=True)
def _engines() -> Iterator[None]:
    yield
    close_engines()


@pytest.fixture
def kernelspecs(runtime_dir: Path) -> KernelSpecManager:
    return KernelSpecManager()
