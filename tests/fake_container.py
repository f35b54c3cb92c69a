"""The parts of the fake engine: a container that is a local process group, a stream, hooks."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from container_provisioner.command import SOCKETS_DIR
from container_provisioner.connection import IPC_PORTS
from container_provisioner.engine.base import Event, Output, State
from container_provisioner.errors import EngineUnavailable
from container_provisioner.spec import ContainerSpec
from container_provisioner.transports.ipc import SOCKET_PREFIX


def _output_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="fake-container-")
    os.close(descriptor)
    return Path(name)


@dataclass(eq=False, kw_only=True)
class FakeContainer:
    """Runs the spec's argv on this host, as this user, with nothing mounted."""

    spec: ContainerSpec
    id: str = field(default_factory=lambda: uuid.uuid4().hex * 2)
    state: State = "created"
    created: int = field(default_factory=lambda: int(time.time()))
    started_at: str = ""
    finished_at: str = ""
    exit_code: int = 0
    oom_killed: bool = False
    output: Path = field(default_factory=_output_file)
    errors: Path = field(default_factory=_output_file)
    ended: threading.Event = field(default_factory=threading.Event)
    files: dict[str, tuple[tarfile.TarInfo, bytes]] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self.state in ("running", "paused")

    def cpu_seconds(self) -> float:
        """Of its first process."""
        assert self._process is not None
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def run(self, on_end: Callable[[FakeContainer], object]) -> bool:
        """Start its process; False when there is no such program. `on_end` comes from a thread."""
        self.started_at = datetime.now(timezone.utc).isoformat()
        self.ended.clear()
        self.oom_killed, self.state = False, "running"
        working_dir = self.spec.working_dir
        with self.output.open("ab") as output, self.errors.open("ab") as errors:
            try:
                self._process = subprocess.Popen(
                    self.spec.argv,
                    cwd=working_dir if Path(working_dir).is_dir() else "/",
                    env={"PATH": os.environ["PATH"], **self.spec.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as exc:  # what Docker's init says, and does
                errors.write(f"exec {self.spec.argv[0]} failed: {exc.strerror}\n".encode())
                self._end(127 if isinstance(exc, FileNotFoundError) else 126, on_end)
                return False
        threading.Thread(target=self._reap, args=(self._process, on_end), daemon=True).start()
        return True

    def send(self, signum: int) -> None:
        """To the whole process group, as the engine's init does."""
        if self._process is not None and self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)

    def _reap(
        self, process: subprocess.Popen[bytes], on_end: Callable[[FakeContainer], object]
    ) -> None:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.send(signal.SIGKILL)  # no process outlives the first one of its container
        code = process.wait()
        self._end(code if code >= 0 else 128 - code, on_end)

    def _end(self, code: int, on_end: Callable[[FakeContainer], object]) -> None:
        self.finished_at = datetime.now(timezone.utc).isoformat()
        self.exit_code, self.state = code, "exited"
        on_end(self)
        self.ended.set()


def open_sockets(container: FakeContainer) -> None:
    """What a kernel does that speaks ipc, as far as anybody can see from outside."""
    for mount in container.spec.mounts:
        if mount.target == SOCKETS_DIR:
            for port in IPC_PORTS.values():
                make_socket(Path(mount.source, f"{SOCKET_PREFIX}-{port}"))


def make_socket(path: Path) -> None:
    """A socket file, which stays when nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


class FakeEvents:
    """The events so far, then new ones until it is closed. `broken` ends it by an error."""

    def __init__(self, past: list[Event]) -> None:
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        for event in past:
            self.events.put(event)
        self.broken = self.closed = False

    def __iter__(self) -> Iterator[Event]:
        while (event := self.events.get()) is not None:
            yield event
        if self.broken:
            raise EngineUnavailable("Following the fake's events: the stream broke")

    def close(self) -> None:
        self.closed = True
        self.events.put(None)


class FakeOutput:
    """What a container has written, standard output first; following, what is new in either."""

    def __init__(self, container: FakeContainer, lines: int | None, *, follow: bool) -> None:
        self._container, self._lines, self._follow = container, lines, follow
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Output]:
        files = {False: self._container.output, True: self._container.errors}
        read = dict.fromkeys(files, 0)
        while True:
            ended = not self._container.runs or self._closed.is_set()
            for is_error, path in files.items():
                data = path.read_bytes()[read[is_error] :] if path.exists() else b""
                read[is_error] += len(data)
                if self._lines is not None:
                    data = b"".join(data.splitlines(keepends=True)[-self._lines :])
                if data:
                    yield Output(data=data, is_error=is_error)
            self._lines = None
            if ended or not self._follow:
                return
            self._closed.wait(0.02)

    def close(self) -> None:
        self._closed.set()


Hook = Callable[[], object]


class Gate:
    """A hook that blocks its verb until `release`, from its `call`-th call on."""

    def __init__(self, call: int = 1) -> None:
        self.reached = threading.Event()
        self._calls = itertools.count(1 - call)
        self._released = threading.Event()

    def __call__(self) -> None:
        if next(self._calls) < 0:
            return
        self.reached.set()
        assert self._released.wait(60), "nobody released the gate"

    def release(self) -> None:
        self._released.set()


def failing(exc: Exception) -> Hook:
    """A hook that fails its verb."""

    def hook() -> None:
        raise exc

    return hook
