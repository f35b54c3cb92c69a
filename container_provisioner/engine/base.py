"""The dozen verbs we need of a container engine, and what they answer.

`ContainerEngine` is implemented by `docker_engine.DockerEngine` and by the fake of the test
suite; one contract suite runs against both. All verbs block; `calls.Engine` is their async face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..spec import ContainerSpec

State = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]

ENDED: frozenset[State] = frozenset({"exited", "dead"})
RUNNING: frozenset[State] = frozenset({"running", "paused", "restarting"})


@dataclass(frozen=True, kw_only=True)
class ContainerInfo:
    """A container as the engine describes it. `list_containers` leaves the later fields empty."""

    id: str
    name: str
    state: State
    labels: Mapping[str, str]
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = ""  # the present or last run; another one after a restart from outside
    addresses: Mapping[str, str] = field(default_factory=dict)  # network name -> IP address
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)  # inside -> host, port


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What an image says of itself."""

    id: str
    user: str = ""  # as its author wrote it: a uid, a name, either with a group; empty is root
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Which engine answered, for messages and for what it cannot do."""

    name: str  # "docker" or "podman"
    version: str
    api_version: str
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened to one of our containers: it died, lost a process to the OOM killer…"""

    action: str  # "die", "oom", "destroy"
    container_id: str


class EventStream(Protocol):
    """Events until the engine or `close`, from any thread, ends the stream."""

    def __iter__(self) -> Iterator[Event]: ...

    def close(self) -> None: ...


Progress = Callable[[str], None]
"""Called with one line for each step of a pull."""


class ContainerEngine(Protocol):
    """Every verb raises `EngineUnavailable` when no answer came, `EngineError` on a refusal."""

    url: str
    is_local: bool  # its host is this host: paths mean the same and unix sockets can be shared

    def info(self) -> EngineInfo: ...

    def create(self, spec: ContainerSpec) -> str:
        """Make the container and return its id; it does not run yet.

        Raises `ImageMissing`, `NameTaken`, `RuntimeMissing`. Not repeatable without a look.
        """
        ...

    def start(self, container: str) -> None:
        """Run it. Quiet when it runs already. Raises `ContainerGone`, `CommandMissing`."""
        ...

    def inspect(self, container: str) -> ContainerInfo:
        """By id or name. Raises `ContainerGone`."""
        ...

    def list_containers(self, labels: Mapping[str, str | None]) -> list[ContainerInfo]:
        """All containers, ended ones too, that carry these labels; None is any value."""
        ...

    def rename(self, container: str, name: str) -> None:
        """Raises `NameTaken`, `ContainerGone`. Of two callers, both may succeed in turn."""
        ...

    def memory(self, container: str) -> int:
        """Bytes that it uses now, file caches that can be given up not counted; 0 when it ended.

        Raises `ContainerGone`.
        """
        ...

    def signal(self, container: str, signum: int) -> bool:
        """To its init, which passes it to the kernel's process group. False: nothing runs there."""
        ...

    def unpause(self, container: str) -> None:
        """Quiet when it is not paused, or gone."""
        ...

    def remove(self, container: str) -> None:
        """End it, and remove it with its anonymous volumes. Quiet when it is gone."""
        ...

    def logs(self, container: str, lines: int) -> str:
        """The last lines of what its processes wrote. Empty when it is gone."""
        ...

    def upload(self, container: str, path: str, archive: bytes) -> None:
        """Unpack a tar archive below `path`; owners and modes are the archive's."""
        ...

    def download(self, container: str, path: str) -> bytes:
        """A tar archive of `path`. Raises `ContainerGone` when there is no such path."""
        ...

    def events(self, since: int) -> EventStream:
        """Events of our kernels' containers, from `since` (seconds since the epoch) on."""
        ...

    def inspect_image(self, image: str) -> ImageInfo:
        """Raises `ImageMissing`."""
        ...

    def pull(self, image: str, progress: Progress) -> None:
        """Raises `PullFailed`. Blocks for as long as it takes."""
        ...

    def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        """Make an image of one layer from a tar archive."""
        ...

    def remove_image(self, image: str) -> None:
        """Quiet when there is none, or when a container uses it."""
        ...

    def close(self) -> None:
        """Give back connections. The engine may be used again afterwards."""
        ...
