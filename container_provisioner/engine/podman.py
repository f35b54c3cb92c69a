"""Podman, by the API of Docker's that it serves: what it does otherwise, and nothing else.

Seen with Podman 4.3. What the API takes and Podman silently leaves out is refused here: a kernel
that was to run under another runtime must not run under the usual one.
"""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from .. import labels
from ..errors import (
    ConfigurationError,
    ContainerGone,
    EngineError,
    EngineUnavailable,
    RuntimeMissing,
    WorkspaceError,
)
from ..exits import KILLED
from ..spec import ContainerSpec, Tmpfs
from .base import (
    ENDED,
    RUNNING,
    BuildRequest,
    ContainerInfo,
    EngineInfo,
    Event,
    EventStream,
    ImageInfo,
    Output,
    OutputStream,
    Usage,
)
from .docker_build import DockerBuild
from .docker_engine import MAX_CONNECTIONS, DockerEngine, DockerEvents
from .docker_errors import engine_errors
from .kernel_log import memory_ran_out
from .podman_service import PodmanService, ServiceAdapter

T = TypeVar("T")

# Said of a container that is on its way from one state to the next.
_BETWEEN_STATES = ("state improper", "cannot remove container")
_ATTEMPTS = 5

# What an inspection fails of while the container ends.
_ENDING = ("no such process", "cannot get cgroup path")
_ENDING_SECONDS = 0.05

# Podman puts memory there when the root filesystem is read-only. Nobody has asked for it.
_UNASKED = {"/run": "ro,nosuid,nodev,noexec,size=65536,mode=755", "/var/tmp": "ro,size=4096"}

# Of the kernel, the oldest child of the container's init. A command of our own in the container is
# the init's child only when its parent has ended. (The list is a line without an end, and `read`
# then says that it failed.)
_SIGNAL_GROUP = (
    'read -r kernel others </proc/1/task/1/children; [ -n "$kernel" ] && kill -s "$0" -- "-$kernel"'
)

# Without root, on cgroups of version 1, Podman leaves the limits out. In Docker's words.
_NO_LIMITS = ("No memory limit support", "No cpu cfs quota support", "No pids limit support")

BLOCK = 512  # bytes, of a tar archive

# Podman's names of images are whole; Docker's, and people's, are not.
_REGISTRIES = ("localhost/", "docker.io/library/", "docker.io/")


class PodmanEngine(DockerEngine):
    """One Podman at one URL, rootful or rootless; started when it is a `service` of our own."""

    # Podman 4.3 follows a log file for its events, and can lose some.
    relist_seconds = 5.0

    def __init__(
        self, url: str, *, timeout: float = 60, service: PodmanService | None = None
    ) -> None:
        super().__init__(url, timeout=timeout)
        self._service = service  # that is ours to start
        self._rootless = False  # known once it has been asked what it is

    def _connect(self) -> Any:
        if self._service is None:
            return super()._connect()
        self._service.ensure()
        client = super()._connect()
        client.mount(
            "http+docker://",
            ServiceAdapter(self._service, timeout=self._timeout, max_pool_size=MAX_CONNECTIONS),
        )
        return client

    def info(self) -> EngineInfo:
        info = super().info()
        self._rootless = "rootless" in info.security
        client = self._client
        with engine_errors(doing=f"Asking {self.url} for its cgroups"):
            version = client.info().get("CgroupVersion")
        if self._rootless and version == "1":
            info = replace(info, warnings=(*info.warnings, *_NO_LIMITS))
        return info

    # -- containers -------------------------------------------------------------------------

    def create(self, spec: ContainerSpec) -> str:
        if spec.runtime:
            raise RuntimeMissing(
                spec.runtime,
                "Podman takes no runtime by its API; containers.conf chooses it for all",
            )
        if spec.gpus:
            raise ConfigurationError(
                f"gpus = {spec.gpus!r}: Podman hands out no GPUs by its API. "
                "Unset it, or use Docker."
            )
        if self.is_local:
            for mount in spec.mounts:
                # It would be made, empty, and root's.
                if not os.path.lexists(mount.source):
                    raise WorkspaceError(
                        f"Creating container {spec.name}: the mount's source {mount.source} does "
                        "not exist. Create the path, or correct it in mounts."
                    )
        return super().create(spec)

    def _body(self, spec: ContainerSpec) -> dict[str, Any]:
        body = super()._body(spec)
        host = body["HostConfig"]
        host["Tmpfs"] = {
            **(_UNASKED if spec.read_only else {}),
            **{
                tmpfs.target: _tmpfs_options(tmpfs, host["Tmpfs"][tmpfs.target])
                for tmpfs in spec.tmpfs
            },
        }
        if self._rootless and spec.user:
            # The kernel's uid is its caller's on the host too: what it writes is theirs, and what
            # is theirs it can read. Else it would be one of the caller's subordinate uids.
            host["UsernsMode"] = "keep-id"
        return body

    def inspect(self, container: str) -> ContainerInfo:
        found = _settled(lambda: super(PodmanEngine, self).inspect(container))
        if found.state in ENDED and found.exit_code == KILLED and not found.oom_killed:
            # Podman 4.3 looks for its monitor's note in another folder than where that writes it.
            oom_killed = self.is_local and memory_ran_out(found.id)
            found = replace(found, oom_killed=oom_killed)
        return replace(found, image=_short(found.image))

    def _listed(self, item: Mapping[str, Any]) -> ContainerInfo:
        networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
        found = super()._listed(item)
        return replace(found, image=_short(found.image), network=next(iter(networks), "none"))

    def usage(self, container: str) -> Usage:
        try:
            return super().usage(container)
        except EngineUnavailable:  # an empty answer is none
            if self.inspect(container).state in RUNNING:
                raise
            return Usage()

    def signal(self, container: str, signum: int) -> bool:
        """The init that Podman brings passes a signal to the kernel, but not to its group."""
        try:
            found = _settled(lambda: self._inspected(container))
        except ContainerGone:
            return False
        if found["State"]["Status"] != "running":  # one that is paused would act on it much later
            return False
        if signum == signal.SIGKILL:
            return super().signal(container, signum)
        if self.is_local and _signal_group(found["State"]["Pid"], found["Id"], signum):
            return True
        return self._signal_group_within(container, signum) or super().signal(container, signum)

    def _inspected(self, container: str) -> Any:
        client = self._client
        with engine_errors(doing=f"Inspecting container {container[:12]}"):
            return client.inspect_container(container)

    def _signal_group_within(self, container: str, signum: int) -> bool:
        """For a Podman whose processes are not among ours. Needs a shell in the image."""
        name = signal.Signals(signum).name.removeprefix("SIG")
        try:
            execution = self.execute(container, ("/bin/sh", "-c", _SIGNAL_GROUP, name))
            try:
                for _ in execution:
                    pass
                return execution.exit_code() == 0
            finally:
                execution.close()
        except EngineError:
            return False

    def remove(self, container: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                super().remove(container)
                return
            except EngineError as exc:
                if not any(words in str(exc) for words in _BETWEEN_STATES):
                    raise
                with suppress(EngineError):  # of a paused container it kills what cannot die
                    self.unpause(container)
        super().remove(container)

    def upload(self, container: str, path: str, archive: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            end = max((m.offset_data + -(-m.size // BLOCK) * BLOCK for m in members), default=0)
        # Two empty blocks are the end, and Podman reads no further. Were there more, as Python
        # writes them, it might complain that it could not get rid of them.
        super().upload(container, path, archive[:end] + bytes(2 * BLOCK))

    # -- what it tells ----------------------------------------------------------------------

    def logs(self, container: str, lines: int) -> str:
        # Podman counts, and joins, the pieces of a line that did not end when it was written.
        text = super().logs(container, -1)
        return "".join(text.splitlines(keepends=True)[-lines:])

    def output(self, container: str, lines: int | None, follow: bool) -> OutputStream:
        if lines is None or follow:
            return super().output(container, lines, follow)
        return _LastOutput(super().output(container, None, False), lines)

    def events(self, since: int) -> EventStream:
        client = self._client
        with engine_errors(doing="Following the engine's events"):
            # It filters by a label's value only, and tells of no process that memory ran out for.
            filters = {"type": "container", "event": ["died", "remove"]}
            stream = client.events(since=since, decode=True, filters=filters)
        return _PodmanEvents(stream)

    # -- images -----------------------------------------------------------------------------

    def inspect_image(self, image: str) -> ImageInfo:
        found = super().inspect_image(image)
        return replace(found, names=tuple(map(_short, found.names)))

    def list_images(self, labels: Mapping[str, str | None]) -> list[ImageInfo]:
        # Of several labels at once Podman finds none.
        lists = [super(PodmanEngine, self).list_images({name: labels[name]}) for name in labels]
        common = set.intersection(*({found.id for found in images} for images in lists))
        return [
            replace(found, names=tuple(map(_short, found.names)))
            for found in lists[0]
            if found.id in common
        ]

    def build(self, request: BuildRequest) -> DockerBuild:
        def connect() -> Any:
            client = self._connect()
            # Its cache would be images that have no name and that nobody removes.
            client.params = {"layers": "false"}
            return client

        return DockerBuild(connect, request)


class _PodmanEvents(DockerEvents):
    """Of containers that carry our label."""

    def _event(self, body: Mapping[str, Any]) -> Event | None:
        actor, action = body["Actor"], body["Action"]
        if labels.KERNEL_ID not in (actor.get("Attributes") or {}):
            return None
        action = {"died": "die", "remove": "destroy"}.get(action, action)
        return Event(action=action, container_id=actor["ID"])


class _LastOutput:
    """The last lines of an output that has an end."""

    def __init__(self, whole: OutputStream, lines: int) -> None:
        self._whole, self._lines = whole, lines

    def __iter__(self) -> Iterator[Output]:
        kept: deque[Output] = deque(maxlen=self._lines)
        begun = False  # the last line, by a piece without an end
        for piece in self._whole:
            for part in piece.data.splitlines(keepends=True):
                if begun and kept and kept[-1].is_error == piece.is_error:
                    kept[-1] = replace(kept[-1], data=kept[-1].data + part)
                else:
                    kept.append(replace(piece, data=part))
                begun = not part.endswith(b"\n")
        yield from kept

    def close(self) -> None:
        self._whole.close()


def _settled(look: Callable[[], T]) -> T:
    """Look until the container is not just ending."""
    for _ in range(_ATTEMPTS):
        try:
            return look()
        except EngineError as exc:
            if not any(words in str(exc) for words in _ENDING):
                raise
        time.sleep(_ENDING_SECONDS)
    return look()


def _tmpfs_options(tmpfs: Tmpfs, options: str) -> str:
    """Podman knows no owner but, by "U", the container's user."""
    kept = [option for option in options.split(",") if not option.startswith(("uid=", "gid="))]
    return ",".join([*kept, *(["U"] if tmpfs.uid else [])])


def _short(image: str) -> str:
    registry = next(filter(image.startswith, _REGISTRIES), "")
    return image.removeprefix(registry)


def _signal_group(init: int, container_id: str, signum: int) -> bool:
    """Signal the kernel's process group, if that is one of this host's; False: it is not.

    Whoever may talk to this Podman may do so: root, or the owner of a rootless one's user
    namespace. A hundredth of a second, and a tenth by a command in the container, which a kernel
    that has used up its memory or its processes would not even get.
    """
    try:
        kernel = int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
        parent = Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[1]
        monitor = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
        # The number may mean another process here than where Podman runs.
        if container_id.encode() not in monitor or os.getpgid(kernel) != kernel:
            return False
        os.killpg(kernel, signum)
    except (OSError, IndexError, ValueError):
        return False
    return True
