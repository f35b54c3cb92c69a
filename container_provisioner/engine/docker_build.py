"""Builds, for `DockerEngine`: through ``POST /build``, by the builder that every engine has."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, BinaryIO

import docker.errors
import requests
from docker.types import CancellableStream

from ..errors import BuildFailed, ContainerGone, EngineError, EngineUnavailable
from ..exits import ESCAPE_SEQUENCES
from .answers import pull_step
from .base import BuildProgress, BuildRequest, BuildStep, PullStep
from .docker_errors import engine_errors

# What the error shows of a failed command: lines of its output, and letters of itself.
OUTPUT_LINES = 20
WORDS = 80

# Seconds that the engine may take to end a cancelled build: a command ends at once, but while files
# are copied it does not listen.
CANCEL_SECONDS = 60.0

# Seconds that it may take to remove the container, after an answer that was cut off.
SETTLE_SECONDS = 10.0

_PORTION = 256 * 1024  # bytes

# What the builder says between the lines of the commands; Podman's writes the same a bit otherwise.
_STEP = re.compile(r"step (\d+)/(\d+) ?: (.*)", re.IGNORECASE | re.DOTALL)
_RUNS = re.compile(r" ---> Running in ([0-9a-f]+)")
_MADE = re.compile(r" ?-+> ([0-9a-f]{10,64})")
_REMOVED = re.compile(r"Remov(?:ing|ed) intermediate container ([0-9a-f]+)")
_EXIT = re.compile(r"(?:returned a non-zero code:|while running runtime: exit status) (\d+)")
_LOGIN = re.compile(r"://[^/\s@]+:[^/\s@]+@")  # of a proxy or an index; shown to nobody
_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


class _Transcript:
    """What the stream of one build has said so far."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self.step = BuildStep(number=0, total=0, instruction="")
        self.made: list[str] = []  # beginnings of ids of images that it made, the cache's not
        self.container = ""  # that runs a step now
        self.image = ""  # the id of the last stage's
        self.is_named = False  # the engine has said so
        self.error = ""
        self.output: deque[str] = deque(maxlen=OUTPUT_LINES)  # of this step
        self._rest = ""  # of a line that has not ended yet
        self._is_cached = False

    def read(self, message: Mapping[str, Any]) -> Iterator[BuildStep | PullStep]:
        """One message of the stream; what of it is progress."""
        if "error" in message:
            self.error = _LOGIN.sub("://", str(message["error"]).strip())
        elif "aux" in message:
            self.image = str((message["aux"] or {}).get("ID") or self.image)
        elif "status" in message:
            yield pull_step(message)
        *lines, self._rest = (self._rest + str(message.get("stream") or "")).split("\n")
        if self.error:
            lines.append(self._rest)
        for line in lines:
            # Of a line that was written over, the last.
            shown = _LOGIN.sub("://", ESCAPE_SEQUENCES.sub("", line)).rstrip().rpartition("\r")[2]
            if shown.strip() and (step := self._read_line(shown)) is not None:
                yield step

    def _read_line(self, line: str) -> BuildStep | None:
        # While a container runs, the lines are its own, whatever they look like.
        if self.container:
            if (found := _REMOVED.fullmatch(line)) and found[1] == self.container:
                self.container = ""
                return None
        elif found := _STEP.fullmatch(line):
            self.step = BuildStep(
                number=int(found[1]), total=int(found[2]), instruction=self._title(found[3])
            )
            self.output.clear()
            self._is_cached = False
            return self.step
        elif found := _RUNS.fullmatch(line):
            self.container = found[1]
            return None
        elif found := _MADE.fullmatch(line):
            if not self._is_cached and not self.step.instruction.upper().startswith("FROM "):
                self.made.append(found[1])
            return None
        elif line.startswith("Successfully "):
            self.is_named = line.startswith("Successfully tagged ")
            return None
        elif "Using cache" in line:
            self._is_cached = True
            return None
        self.output.append(line)
        return replace(self.step, line=line)

    def _title(self, instruction: str) -> str:
        text = " ".join(instruction.split())
        titles = self._titles.items()
        return next((title for pattern, title in titles if re.match(pattern, text)), text)


class DockerBuild:
    """One build, on a connection of its own. See `base.Build`."""

    def __init__(self, connect: Callable[[], Any], request: BuildRequest) -> None:
        self._connect, self._request = connect, request
        self._said = _Transcript(request.titles)
        self._cancelled = threading.Event()
        self._was_cut = False
        self._lock = threading.Lock()
        self._answer: requests.Response | None = None

    def run(self, progress: BuildProgress) -> str:
        with closing(self._request.context), closing(self._connect()) as client:
            try:
                self._follow(client, progress)
            finally:
                if self._was_cut:
                    self._settle(client)
                self._clear_away(client)
        return self._said.image

    def cancel(self) -> None:
        self._cancelled.set()
        self._hang_up()

    def _answered(self, response: requests.Response, **_: Any) -> None:
        with self._lock:
            self._answer = response
        if self._cancelled.is_set():
            self._hang_up()

    def _hang_up(self) -> None:
        """Say that nobody waits for the build: the engine ends it, and then its answer.

        It looks at what it can read from us, so only that half of the connection is closed, and we
        hear what it has made until then. Over TLS or ssh there are no halves.
        """
        with self._lock:
            answer = self._answer
        if answer is None:
            return
        try:
            raw: Any = answer.raw
            raw._fp.fp.raw._sock.shutdown(socket.SHUT_WR)  # where the SDK finds it too
        except (AttributeError, OSError, ValueError):
            self._cut(answer)
        else:
            late = threading.Timer(CANCEL_SECONDS, self._cut, [answer])
            late.daemon = True
            late.start()

    def _cut(self, answer: requests.Response) -> None:
        with self._lock:
            if self._answer is not answer:  # it has ended
                return
            self._was_cut = True
        with suppress(OSError, AttributeError, docker.errors.DockerException):
            CancellableStream(iter(()), answer).close()

    def _follow(self, client: Any, progress: BuildProgress) -> None:
        request, said = self._request, self._said
        refusal: Exception | None = None
        # The SDK returns what it has decoded; the connection can be had here only.
        client.hooks["response"] = [self._answered]
        try:
            with engine_errors(doing=f"Building {request.image}"):
                for message in client.build(
                    fileobj=_portions(request.context, self._cancelled),
                    custom_context=True,
                    dockerfile=request.dockerfile,
                    tag=request.image,
                    buildargs=dict(request.arguments),
                    labels=dict(request.labels),
                    network_mode=request.network or None,
                    nocache=not request.use_cache,
                    rm=True,
                    forcerm=True,
                    decode=True,
                ):
                    for step in said.read(message):
                        try:
                            if refusal is None:
                                progress(step)
                        except Exception as exc:  # noqa: BLE001 - raised when the build has ended
                            refusal = exc
                            self.cancel()
        except EngineError as exc:
            # An answer that breaks off has no error in it: the engine has said what it had to.
            if isinstance(exc, EngineUnavailable) and not (said.error or self._cancelled.is_set()):
                raise
            said.error = said.error or str(exc).removeprefix(f"Building {request.image}: ")
        finally:
            with self._lock:
                self._answer = None
            client.hooks["response"] = []
        if refusal is not None:
            raise refusal
        if self._cancelled.is_set() and not said.is_named:
            raise BuildFailed(request.image, "it was cancelled.")
        if said.error:
            raise BuildFailed(request.image, self._explanation(), said.output)
        if not said.image:
            raise EngineUnavailable(
                f"Building {request.image}: the engine ended its answer in the middle of the build."
            )

    def _explanation(self) -> str:
        step, error = self._said.step, self._said.error
        shown = step.instruction
        shown = f"{shown[:WORDS]}…" if len(shown) > WORDS else shown
        where = f"step {step.number} of {step.total}, {shown!r}, " if step.number else ""
        if _DISK_FULL.search(error) or any(_DISK_FULL.search(line) for line in self._said.output):
            return (
                f"{where}the engine's disk is full. 'docker system df' shows what is on it, "
                "'docker system prune' frees what nobody uses. Nothing of this build was kept."
            )
        if found := _EXIT.search(error):
            return f"{where}ended with exit code {found[1]}."
        return f"{where}{error}."

    def _settle(self, client: Any) -> None:
        """The engine removes the container of a build whose caller has gone; wait until it has."""
        container = self._said.container
        if not container:
            return
        deadline = time.monotonic() + SETTLE_SECONDS
        with suppress(ContainerGone, EngineUnavailable):
            while time.monotonic() < deadline:
                with engine_errors(doing=f"Inspecting container {container}"):
                    client.inspect_container(container)
                time.sleep(0.05)
            with engine_errors(doing=f"Removing container {container}"):
                client.remove_container(container, v=True, force=True)

    def _clear_away(self, client: Any) -> None:
        """Remove the images without a name that this build has made: earlier stages, with what was
        copied into them, and the steps of one that failed. Those with images upon them stay."""
        for image in reversed(self._said.made):
            with suppress(EngineError), engine_errors(doing=f"Removing image {image}"):
                found = client.inspect_image(image)
                # By its id, an image that has one name would lose that.
                if not (found.get("RepoTags") or found.get("RepoDigests")):
                    client.remove_image(image, noprune=True)


def _portions(context: BinaryIO, cancelled: threading.Event) -> Iterator[bytes]:
    """The context as it is sent, which may be gigabytes, until the build is cancelled."""
    while portion := context.read(_PORTION):
        if cancelled.is_set():
            raise OSError("the build was cancelled")
        yield portion
