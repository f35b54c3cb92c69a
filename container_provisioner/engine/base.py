"""The dozen verbs we need of a container engine, and what they answer.

`ContainerEngine` is implemented by `docker_engine.DockerEngine` and by the fake of the test
suite; one contract suite runs against both. All verbs block; `calls.Engine` is their async face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

from ..exits import ExitStatus
from ..spec import ContainerSpec, Limits, Mount

State = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]

ENDED: frozenset[State] = frozenset({"exited", "dead"})
RUNNING: frozenset[State] = frozenset({"running", "paused", "restarting"})


@dataclass(frozen=True, kw_only=True)
class ContainerInfo:
    """A container as the engine describes it. `list_containers` leaves empty what follows the exit
    code."""

    id: str
    name: str
    state: State
    labels: Mapping[str, str]
    image: str = ""  # as it was named when the container was made
    created: int = 0  # seconds since the epoch
    network: str = ""  # "none", "bridge", or a network's name
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = ""  # the present or last run; another one after a restart from outside
    finished_at: str = ""  # of one that has ended
    addresses: Mapping[str, str] = field(default_factory=dict)  # network name -> IP address
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)  # inside -> host, port
    user: str = ""  # as it was asked for: uid[:gid]; empty is the image's own
    read_only: bool = False  # its root filesystem
    limits: Limits = field(default_factory=Limits)
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[Mount, ...] = ()  # where they are on the engine's disk; without: in memory
    node: str = ""  # of a swarm: the hostname of the one that it is on
    is_refused: bool = False  # by that node, which can run none: another `start` avoids it

    @property
    def exit_status(self) -> ExitStatus | None:
        """How its last run ended; None when it has not."""
        if self.state not in ENDED:
            return None
        return ExitStatus(code=self.exit_code, oom_killed=self.oom_killed, error=self.error)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a container uses at one moment (``GET /containers/{id}/stats``). All 0 when it has
    ended."""

    memory: int = 0  # bytes, file caches that can be given up not counted
    memory_limit: int = 0  # bytes; all of the host's where there is no other limit
    cpu_seconds: float = 0.0  # of all processors, since its start
    pids: int = 0  # processes and threads
    at: float = 0.0  # that moment, in seconds since the epoch by the engine's clock


@dataclass(frozen=True, kw_only=True)
class Output:
    """A piece of what a container's processes wrote. It need not end where a line does."""

    data: bytes
    is_error: bool  # on standard error


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What an image says of itself. `list_images` leaves empty all but id, names and size."""

    id: str
    names: tuple[str, ...] = ()  # with their tags
    digests: tuple[str, ...] = ()  # names by which registries know it
    labels: Mapping[str, str] = field(default_factory=dict)
    size: int = 0  # bytes, layers that others share included
    user: str = ""  # as its author wrote it: a uid, a name, either with a group; empty is root
    environment: Mapping[str, str] = field(default_factory=dict)

    def digest_of(self, image: str) -> str | None:
        """Which of its digests is of the registry that the name `image` means."""
        repository = _repository(image)
        return next((name for name in self.digests if _repository(name) == repository), None)


def _repository(image: str) -> str:
    """Of ``python:3.13``, ``docker.io/library/python@sha256:…``: ``python``, as Docker says it."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    name = f"{folder}{slash}{last.partition(':')[0]}"
    return name.removeprefix("docker.io/").removeprefix("library/")


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """A network that containers can join."""

    id: str
    name: str
    internal: bool  # the engine lets nothing out of it
    config_from: str = ""  # of a swarm: the network of each node that says how it is made
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Which engine answered, for messages and for what it cannot do."""

    name: str  # "docker" or "podman"
    version: str
    api_version: str
    security: tuple[str, ...] = ()  # what it confines containers with: "seccomp", "rootless", …
    is_manager: bool = False  # of a swarm
    warnings: tuple[str, ...] = ()  # what it says that it cannot do, such as limit memory


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened to one of our containers: it died, lost a process to the OOM killer…"""

    action: str  # "die", "oom", "destroy"
    container_id: str


class EventStream(Protocol):
    """Events until the engine or `close`, from any thread, ends the stream."""

    def __iter__(self) -> Iterator[Event]: ...

    def close(self) -> None: ...


class OutputStream(Protocol):
    """Output until the container, the engine or `close`, from any thread, ends the stream."""

    def __iter__(self) -> Iterator[Output]: ...

    def close(self) -> None: ...


class Execution(Protocol):
    """A command that runs in a container. All of it blocks; `close`, from any thread, ends that.

    Its answer may begin before anybody listens, and that part is lost: a command that answers has
    to wait until it has been sent something.
    """

    def send(self, data: bytes) -> None:
        """To its standard input."""
        ...

    def end_input(self) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        """What it writes on standard output, piece by piece, to its end."""
        ...

    def errors(self) -> str:
        """The last that it wrote on standard error, as far as its output was read."""
        ...

    def exit_code(self) -> int:
        """Once its output has ended. 126 and 127: there is no such command."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class PullStep:
    """One message of a pull (``POST /images/create``). A field is empty where the engine is silent.

    `str` is the line that ``docker pull`` would print.
    """

    layer: str = ""  # the short id of a layer; empty in what is said of the whole image
    status: str = ""  # "Downloading", "Already exists", "Digest: sha256:…": for people
    current: int = 0  # bytes of what the status says, so far
    total: int = 0  # bytes of it in all; 0 is unknown

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.layer, self.status)))


Progress = Callable[[PullStep], None]
"""Called for each step of a pull, in the thread that pulls."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What ``POST /build`` is asked for."""

    image: str  # the name that it gets, with or without a tag
    context: BinaryIO  # a tar archive, from its beginning; see `build_context`. Closed at the end
    dockerfile: str = "Dockerfile"  # in the context
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = ""  # of the commands that it runs; empty is the engine's default
    use_cache: bool = True
    titles: Mapping[str, str] = field(default_factory=dict)
    """By pattern: what progress calls a step whose instruction, on one line, matches it."""


@dataclass(frozen=True, kw_only=True)
class BuildStep:
    """A step of a build begins, or its command wrote a line."""

    number: int  # from 1
    total: int
    instruction: str  # as in the Dockerfile, on one line; or its title
    line: str = ""  # empty when it begins


BuildProgress = Callable[[BuildStep | PullStep], None]
"""Called in the thread that builds; with the steps of a pull too, when the engine fetches a base.
What it raises ends the build."""


class Build(Protocol):
    """A build that has not begun."""

    def run(self, progress: BuildProgress) -> str:
        """The image's id. Blocks for as long as it takes.

        Raises `BuildFailed`. Then, and after `cancel`, nothing is left that the build has made; nor
        are images without a name after one that succeeded.
        """
        ...

    def cancel(self) -> None:
        """End it, from any thread: `run` raises `BuildFailed` when everything is cleared away.

        Files that are being copied are copied first; a build that was done by then has succeeded.
        """
        ...


class ContainerEngine(Protocol):
    """Every verb raises `EngineUnavailable` when no answer came, `EngineError` on a refusal."""

    url: str
    is_local: bool  # its host is this host: paths mean the same and unix sockets can be shared
    relist_seconds: float  # how long its event stream alone is trusted

    def info(self) -> EngineInfo: ...

    def create(self, spec: ContainerSpec) -> str:
        """Make the container and return its id; it does not run yet.

        Raises `ImageMissing`, `NameTaken`, `RuntimeMissing`. Not repeatable without a look.
        """
        ...

    def start(self, container: str) -> None:
        """Run it. Quiet when it runs already.

        Raises `ContainerGone`, `CommandMissing`, `NetworkMissing`. A container that has run in a
        network which was then removed raises the last for ever, even if the network is made again.
        """
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

    def usage(self, container: str) -> Usage:
        """What it uses now. Older engines answer at their next measurement, up to a second later.

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

    def output(self, container: str, lines: int | None, follow: bool) -> OutputStream:
        """The last lines of it, piece by piece as it was written; all when `lines` is None.

        `follow`: and what they write from now on, until the container ends. Raises `ContainerGone`.
        """
        ...

    def upload(self, container: str, path: str, archive: bytes) -> None:
        """Unpack a tar archive below `path`; owners and modes are the archive's.

        In a volume, the engine may give all of it to the container's user instead.
        """
        ...

    def download(self, container: str, path: str, limit: int | None = None) -> bytes:
        """A tar archive of `path`. Raises `ContainerGone` when there is no such path, and
        `ArchiveTooLarge` when it is longer than `limit` bytes; no more are then read."""
        ...

    def execute(self, container: str, argv: Sequence[str]) -> Execution:
        """Run a command as the container's user. Raises `ContainerGone`, and `EngineError` when
        the container does not run or is paused."""
        ...

    def events(self, since: int) -> EventStream:
        """Events of our kernels' containers, from `since` (seconds since the epoch) on."""
        ...

    def inspect_image(self, image: str) -> ImageInfo:
        """Raises `ImageMissing`."""
        ...

    def list_images(self, labels: Mapping[str, str | None]) -> list[ImageInfo]:
        """All images that carry these labels; None is any value."""
        ...

    def pull(self, image: str, progress: Progress) -> None:
        """Raises `PullFailed`. Blocks for as long as it takes."""
        ...

    def build(self, request: BuildRequest) -> Build:
        """Prepare a build; nothing is asked of the engine yet."""
        ...

    def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        """Make an image of one layer from a tar archive."""
        ...

    def remove_image(self, image: str) -> None:
        """Quiet when there is none, or when a container or another image uses it."""
        ...

    def networks(self, name: str) -> list[NetworkInfo]:
        """Those of exactly that name; an engine may have several."""
        ...

    def create_network(
        self, name: str, *, bridge: str, internal: bool, labels: Mapping[str, str]
    ) -> None:
        """Make one on which containers cannot reach each other.

        `internal`: it has no way out, and no ports of it can be published. Else packets get out,
        and are not answered: they come from the container's own address. `bridge` is its
        interface on the engine's host. Raises `NameTaken` when there is one of that name or with
        that bridge; of several callers at once one succeeds.
        """
        ...

    def remove_network(self, name: str) -> bool:
        """True when it is gone; False, and it stays, while a container of any state joins it."""
        ...

    def unused_volumes(self, labels: Mapping[str, str | None]) -> list[str]:
        """Names of volumes with these labels that no container has; None is any value."""
        ...

    def remove_volume(self, name: str) -> bool:
        """True when it is gone; False, and it stays, while a container has it."""
        ...

    def close(self) -> None:
        """Give back connections. The engine may be used again afterwards."""
        ...
