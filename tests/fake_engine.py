"""A `ContainerEngine` in this process: its containers are local process groups.

Exit codes, signals, output and events are real; isolation is not: argv runs on this host, as
this user, with nothing mounted. The tests in engine_contract hold its answers to Docker's. Verbs
can be delayed, blocked and made to fail: see `FakeEngine`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import signal
import tarfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from container_provisioner import labels
from container_provisioner.engine.base import (
    ENDED,
    BuildRequest,
    ContainerInfo,
    EngineInfo,
    Event,
    ImageInfo,
    NetworkInfo,
    Progress,
    PullStep,
    Usage,
)
from container_provisioner.errors import (
    ArchiveTooLarge,
    ContainerGone,
    EngineError,
    ImageMissing,
    NameTaken,
    NetworkMissing,
    PullFailed,
    RuntimeMissing,
    WorkspaceError,
)
from container_provisioner.spec import ContainerSpec

from .fake_build import FakeBuild
from .fake_container import FakeContainer, FakeEvents, FakeOutput, Hook, open_sockets
from .fake_execution import FakeExecution

P = ParamSpec("P")
T = TypeVar("T")


def verb(
    method: Callable[Concatenate[FakeEngine, P], T],
) -> Callable[Concatenate[FakeEngine, P], T]:
    """Count the call, and run the hooks before and after it."""

    @functools.wraps(method)
    def call(self: FakeEngine, *args: P.args, **kwargs: P.kwargs) -> T:
        name = method.__name__
        with self.lock:
            self.calls[name] += 1
            before = [self.before[key] for key in (name, "*") if key in self.before]
        for hook in before:
            hook()
        try:
            return method(self, *args, **kwargs)
        finally:
            if name in self.after:
                self.after[name]()

    return call


class FakeEngine:
    """`before` and `after` map a verb's name (or ``*``, before any) to a hook run around it.

    A hook that raises fails the call: before, nothing was done; after, the answer was lost, be it
    a refusal. `on_start` is called with each container that starts; see `open_sockets`.
    """

    is_local = True
    relist_seconds = 60.0

    def __init__(self, url: str = "unix:///fake.sock") -> None:
        self.url = url
        self.lock = threading.RLock()
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}
        self.on_start: Callable[[FakeContainer], object] = open_sockets
        self.containers: dict[str, FakeContainer] = {}
        self.images: dict[str, ImageInfo] = {}
        self.image_labels: dict[str, dict[str, str]] = {}  # of those that were imported
        self.registry: dict[str, ImageInfo] = {}  # what can be pulled
        self.address = "172.17.0.9"  # of every container that is in a network
        self.known_networks: list[tuple[NetworkInfo, str]] = []  # made here, with their bridge
        self.volumes: dict[str, FakeContainer] = {}
        self._joined: dict[str, str] = {}  # a network's id, by container
        self.events_stall = False  # streams stay open and deliver nothing
        self.refuses_paused = False  # signals to a paused container, as Podman; Docker resumes it
        self.streams: list[FakeEvents] = []
        self._history: list[tuple[float, Event]] = []

    # -- what a test does to it -------------------------------------------------------------

    def add_image(self, name: str, **facts: object) -> str:
        self.images[name] = ImageInfo(id=f"sha256:{uuid.uuid4().hex}", **facts)  # type: ignore[arg-type]
        return name

    def named(self, name: str) -> FakeContainer:
        """By id or name. Raises `ContainerGone`."""
        with self.lock:
            for container in self.containers.values():
                if name in (container.id, container.spec.name):
                    return container
        raise ContainerGone(f"No such container: {name}")

    def oom(self, name: str, *, kills_kernel: bool = True) -> None:
        """Let memory run out: a process of the container is killed, the kernel or another one."""
        container = self.named(name)
        container.oom_killed = True
        self._emit("oom", container)
        if kills_kernel:
            container.send(signal.SIGKILL)

    def pause(self, name: str) -> None:
        container = self.named(name)
        container.send(signal.SIGSTOP)
        container.state = "paused"

    def break_streams(self) -> None:
        """The engine drops its connections."""
        with self.lock:
            for stream in self.streams:
                stream.broken = True
                stream.close()
            self.streams.clear()

    def dispose(self) -> None:
        """End everything that runs."""
        self.before.clear()
        self.after.clear()
        for name in list(self.containers):
            self.remove(name)

    # -- the verbs --------------------------------------------------------------------------

    @verb
    def info(self) -> EngineInfo:
        return EngineInfo(name="fake", version="1", api_version="1.41")

    @verb
    def create(self, spec: ContainerSpec) -> str:
        if spec.image not in {*self.images, *(image.id for image in self.images.values())}:
            raise ImageMissing(spec.image)
        if spec.runtime not in ("", "runc"):
            raise RuntimeMissing(spec.runtime, "unknown runtime")
        self._check_mounts(spec)
        with self.lock:
            if any(spec.name == other.spec.name for other in self.containers.values()):
                raise NameTaken(f"The container name {spec.name} is already in use")
            container = FakeContainer(spec=spec)
            self.containers[container.id] = container
            self.volumes.update({uuid.uuid4().hex: container for _ in spec.volumes})
        return container.id

    @verb
    def start(self, container: str) -> None:
        found = self.named(container)
        with self.lock:
            if found.state == "paused":
                raise EngineError("cannot start a paused container, try unpause instead")
            if found.state == "running":
                return
            self._check_mounts(found.spec)
            self._join(found)
            runs = found.run(functools.partial(self._emit, "die"))
        if runs:
            self.on_start(found)

    def _join(self, container: FakeContainer) -> None:
        """Its network, once and for all: another one of that name is another one."""
        name = container.spec.network
        if name in ("none", "host", "bridge"):
            return
        ids = [network.id for network, _ in self.known_networks if network.name == name]
        if not ids or self._joined.setdefault(container.id, ids[0]) != ids[0]:
            raise NetworkMissing(f"network {self._joined.get(container.id, name)} not found")

    def _check_mounts(self, spec: ContainerSpec) -> None:
        for mount in spec.mounts:
            if not Path(mount.source).exists():
                raise WorkspaceError(f"The bind source does not exist: {mount.source}")

    @verb
    def inspect(self, container: str) -> ContainerInfo:
        found = self.named(container)
        network, runs = found.spec.network, found.runs
        return ContainerInfo(
            id=found.id,
            name=found.spec.name,
            state=found.state,
            labels=dict(found.spec.labels),
            image=found.spec.image,
            created=found.created,
            exit_code=found.exit_code if found.state in ENDED else 0,
            oom_killed=found.oom_killed,
            started_at=found.started_at,
            finished_at=found.finished_at if found.state in ENDED else "",
            addresses={network: self.address} if runs and network not in ("none", "host") else {},
            published={port: ("127.0.0.1", port + 1000) for port in found.spec.published_ports},
            user=found.spec.user,
            network=network,
            read_only=found.spec.read_only,
            limits=found.spec.limits,
            mounts=found.spec.mounts,
        )

    @verb
    def list_containers(self, labels: Mapping[str, str | None]) -> list[ContainerInfo]:
        with self.lock:
            return [
                ContainerInfo(
                    id=c.id,
                    name=c.spec.name,
                    state=c.state,
                    labels=dict(c.spec.labels),
                    image=c.spec.image,
                    created=c.created,
                    network=c.spec.network,
                    exit_code=c.exit_code if c.state in ENDED else 0,
                )
                for c in self.containers.values()
                if all(
                    name in c.spec.labels and value in (None, c.spec.labels[name])
                    for name, value in labels.items()
                )
            ]

    @verb
    def rename(self, container: str, name: str) -> None:
        with self.lock:
            found = self.named(container)
            if any(name == other.spec.name for other in self.containers.values()):
                raise NameTaken(f"The container name {name} is already in use")
            found.spec = replace(found.spec, name=name)

    @verb
    def usage(self, container: str) -> Usage:
        found = self.named(container)
        if not found.runs:
            return Usage()
        limit = found.spec.limits.memory or 2**34
        return Usage(
            memory=32 * 2**20,
            memory_limit=limit,
            cpu_seconds=found.cpu_seconds(),
            pids=1,
            at=time.time(),
        )

    @verb
    def signal(self, container: str, signum: int) -> bool:
        with contextlib.suppress(ContainerGone):
            found = self.named(container)
            if not found.runs or (found.state == "paused" and self.refuses_paused):
                return False
            found.send(signum)
            self._resume(found)
            return True
        return False

    @verb
    def unpause(self, container: str) -> None:
        with contextlib.suppress(ContainerGone):
            self._resume(self.named(container))

    def _resume(self, container: FakeContainer) -> None:
        with self.lock:
            if container.state == "paused":
                container.send(signal.SIGCONT)
                container.state = "running"

    @verb
    def remove(self, container: str) -> None:
        with contextlib.suppress(ContainerGone):
            found = self.named(container)
            found.send(signal.SIGKILL)
            assert found.state == "created" or found.ended.wait(30)
            with self.lock:
                self.volumes = {n: c for n, c in self.volumes.items() if c is not found}
                if self.containers.pop(found.id, None) is not None:
                    found.output.unlink()
                    found.errors.unlink()
                    self._emit("destroy", found)

    @verb
    def logs(self, container: str, lines: int) -> str:
        try:
            found = self.named(container)
            text = "".join(
                path.read_text(errors="replace") for path in (found.output, found.errors)
            )
        except (ContainerGone, FileNotFoundError):
            return ""
        return "".join(text.splitlines(keepends=True)[-lines:])

    @verb
    def output(self, container: str, lines: int | None, follow: bool) -> FakeOutput:
        return FakeOutput(self.named(container), lines, follow=follow)

    @verb
    def upload(self, container: str, path: str, archive: bytes) -> None:
        found = self.named(container)
        tmpfs = {tmpfs.target for tmpfs in found.spec.tmpfs} if found.runs else set()
        if path not in {"/", "/tmp", *found.files, *tmpfs, *found.spec.volumes}:
            raise ContainerGone(f"Could not find {path} in container {container}")
        if found.spec.read_only and path not in found.spec.volumes:
            raise EngineError("container rootfs is marked read-only")
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            for member in members:
                file = members.extractfile(member) if member.isfile() else None
                content = file.read() if file is not None else b""
                found.files[f"{path.rstrip('/')}/{member.name}"] = (member, content)

    @verb
    def download(self, container: str, path: str, limit: int | None = None) -> bytes:
        found = self.named(container)
        if path not in found.files:
            raise ContainerGone(f"Could not find {path} in container {container}")
        member, content = found.files[path]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(member, io.BytesIO(content))
        if limit is not None and buffer.tell() > limit:
            raise ArchiveTooLarge(path, limit)
        return buffer.getvalue()

    @verb
    def execute(self, container: str, argv: Sequence[str]) -> FakeExecution:
        found = self.named(container)
        if found.state != "running":
            raise EngineError(f"Container {container} is {found.state}")
        return FakeExecution(argv)

    @verb
    def events(self, since: int) -> FakeEvents:
        with self.lock:
            past = [] if self.events_stall else [e for at, e in self._history if at >= since]
            stream = FakeEvents(past)
            self.streams.append(stream)
        return stream

    def _emit(self, action: str, container: FakeContainer) -> None:
        if labels.KERNEL_ID not in container.spec.labels:
            return
        event = Event(action=action, container_id=container.id)
        with self.lock:
            self._history.append((time.time(), event))
            self.streams = [stream for stream in self.streams if not stream.closed]
            for stream in self.streams if not self.events_stall else ():
                stream.events.put(event)

    @verb
    def inspect_image(self, image: str) -> ImageInfo:
        try:
            return self.images[image]
        except KeyError:
            raise ImageMissing(image) from None

    @verb
    def list_images(self, labels: Mapping[str, str | None]) -> list[ImageInfo]:
        return [
            replace(image, names=(name,), size=1024)
            for name, image in self.images.items()
            if all(
                key in self.image_labels.get(name, {})
                and value in (None, self.image_labels[name][key])
                for key, value in labels.items()
            )
        ]

    @verb
    def pull(self, image: str, progress: Progress) -> None:
        if image not in self.registry:
            raise PullFailed(image, "the registry has no such image")
        progress(PullStep(layer="0123456789ab", status="Downloading", current=1, total=2))
        self.images[image] = self.registry[image]

    @verb
    def build(self, request: BuildRequest) -> FakeBuild:
        return FakeBuild(self, request)

    @verb
    def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        self.add_image(image)
        self.image_labels[image] = dict(labels)

    @verb
    def remove_image(self, image: str) -> None:
        if all(image != other.spec.image for other in self.containers.values()):
            self.images.pop(image, None)

    @verb
    def unused_volumes(self, labels: Mapping[str, str | None]) -> list[str]:
        return [
            name
            for name, owner in self.volumes.items()
            if owner.id not in self.containers
            and all(
                key in owner.spec.labels and value in (None, owner.spec.labels[key])
                for key, value in labels.items()
            )
        ]

    @verb
    def remove_volume(self, name: str) -> bool:
        if name in self.volumes and self.volumes[name].id in self.containers:
            return False
        self.volumes.pop(name, None)
        return True

    @verb
    def networks(self, name: str) -> list[NetworkInfo]:
        return [network for network, _ in self.known_networks if network.name == name]

    @verb
    def create_network(
        self, name: str, *, bridge: str, internal: bool, labels: Mapping[str, str]
    ) -> None:
        with self.lock:
            if any(name == other.name or bridge == on for other, on in self.known_networks):
                raise NameTaken(f"network with name {name} already exists")
            made = NetworkInfo(
                id=uuid.uuid4().hex, name=name, internal=internal, labels=dict(labels)
            )
            self.known_networks.append((made, bridge))

    @verb
    def remove_network(self, name: str) -> bool:
        with self.lock:
            if any(container.spec.network == name for container in self.containers.values()):
                return False
            self.known_networks = [
                (other, on) for other, on in self.known_networks if other.name != name
            ]
            return True

    @verb
    def close(self) -> None:
        pass
