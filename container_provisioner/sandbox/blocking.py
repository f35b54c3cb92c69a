"""The sandbox for scripts and tests: each method waits until it is done."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..errors import KernelNotRunning
from .answers import Answer, Output
from .asynchronous import FILE_LIMIT, NOT_STARTED, AsyncSandbox

T = TypeVar("T")


class Sandbox:
    """A kernel in a container, for code that nobody vouches for.

    ``with Sandbox(memory_limit="512m") as sandbox: answer = sandbox.run(code, timeout=10)``

    `image`: the image to run in; by default this machine's own Python environment, read-only.

    `kernel`: the name of a kernelspec in the image, or of one of this machine's that starts local
    kernels; by default ``python3`` or the image's first. Nothing need be installed.

    `folder`: a folder that the code sees at its own path, read-only unless ``workspace="rw"`` is
    given too, and is started in. By default it sees no folder of this machine's.

    `output_limit`: what one run may write and display, in bytes with what a message has besides
    (about 1 KiB; images are in base64). Default ``10m``. What comes after is not kept, and the run
    is stopped.

    `interrupt_timeout`: seconds for which code that is to stop may go on after it was interrupted,
    before the kernel is killed. Default 5.

    All others are the settings of a kernelspec's stanza, by the same names: ``profile``,
    ``memory_limit``, ``cpu_limit``, ``network``, ``env``, …; `ContainerSettings` describes them.
    What is not given is taken from the environment (``CONTAINER_PROVISIONER_MEMORY_LIMIT``), or is
    the default. Raises TraitError or `ConfigurationError` for what makes no sense.

    The methods can be called from any thread, one with an event loop too; they take turns. A
    sandbox that is not closed ends with its process.
    """

    def __init__(
        self,
        image: str = "",
        *,
        kernel: str = "",
        folder: str | Path | None = None,
        output_limit: str = "10m",
        interrupt_timeout: float = 5.0,
        **settings: Any,
    ) -> None:
        self._make = partial(
            AsyncSandbox,
            image,
            kernel=kernel,
            folder=folder,
            output_limit=output_limit,
            interrupt_timeout=interrupt_timeout,
            **settings,
        )
        self._sandbox = self._make()  # which refuses what makes no sense
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether there is a kernel, and as far as is known it runs."""
        return self._sandbox.alive

    @property
    def container_id(self) -> str:
        """Of the kernel's container. Raises `KernelNotRunning` when there is none."""
        return self._sandbox.container_id

    def start(self) -> None:
        """Start the kernel, if there is none, and wait until it answers.

        Raises `EngineError`, `KernelDied`, `StartTimeout`, `ConfigurationError`; nothing is left
        then.
        """
        self._begin_thread()
        try:
            self._wait(self._sandbox.start())
        except BaseException:
            self.close()
            raise

    def restart(self) -> None:
        """Another kernel in another container: variables and files are gone. Raises as `start`."""
        self._begin_thread()
        self._wait(self._sandbox.restart())

    def close(self) -> None:
        """End the kernel and remove its container, with all that runs and is stored in it."""
        if self._loop is not None:
            try:
                self._wait(self._sandbox.close())
            finally:
                self._end_thread()

    def run(
        self,
        code: str,
        *,
        timeout: float | None = 60.0,
        on_output: Callable[[Output], None] | None = None,
    ) -> Answer:
        """Run code, and say what became of it. What the code does raises nothing here.

        After `timeout` seconds, default 60, it is interrupted; None is no limit. `on_output` is
        called in this thread with each `Output` as it comes; what it raises stops the code, and is
        raised.

        Variables and files are there for the next run. When the kernel has died or was killed,
        every further run answers `Died` and runs nothing, until `restart`: variables are never
        lost unseen. Raises `KernelNotRunning` before `start`.
        """
        if on_output is None:
            return self._wait(self._sandbox.run(code, timeout=timeout))
        heard: queue.SimpleQueue[Output | None] = queue.SimpleQueue()
        work = self._submit(self._sandbox.run(code, timeout=timeout, on_output=heard.put))
        work.add_done_callback(lambda _: heard.put(None))
        try:
            while (output := heard.get()) is not None:
                on_output(output)
        except BaseException:
            work.cancel()
            raise
        return work.result()

    def run_notebook(self, path: str | Path, *, timeout: float | None = 60.0) -> None:
        """Run a notebook's code cells, in order, each for `timeout` seconds at most.

        Raises `CellFailed` at the first that does not finish; a cell with the tag
        ``raises-exception`` may raise. The file is not changed.
        """
        self._wait(self._sandbox.run_notebook(path, timeout=timeout))

    def put(self, path: str, content: bytes | str | Path, *, timeout: float = 60.0) -> None:
        """Make a file in the sandbox of these bytes or this text, or a copy of what is at a `Path`
        of this machine, a folder too.

        `path` is relative to where the code was started, which without a `folder` is its home. The
        file is the code's own, and replaces one of that name. Raises `CopyFailed`, `EngineError`,
        `KernelNotRunning`.
        """
        self._wait(self._sandbox.put(path, content, timeout=timeout))

    def get(self, path: str, *, limit: int = FILE_LIMIT, timeout: float = 60.0) -> bytes:
        """What is in a file of the sandbox's: at most `limit` bytes, default 100 MiB.

        Raises `CopyFailed` when there is no such file, it is larger, or not copied in `timeout`
        seconds; `EngineError`, `KernelNotRunning`.
        """
        return self._wait(self._sandbox.get(path, limit=limit, timeout=timeout))

    # A loop of its own, so that the kernel is listened to between two calls, and so that it does
    # not matter which thread they come from.

    def _begin_thread(self) -> None:
        if self._loop is None:
            self._sandbox = self._make()  # nothing of it may belong to an earlier loop
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="container-sandbox", daemon=True
            )
            self._thread.start()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop is None:
            work.close()
            raise KernelNotRunning(NOT_STARTED)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        submitted = self._submit(work)
        try:
            return submitted.result()
        except BaseException:
            submitted.cancel()  # after Ctrl-C. What undoes it has its turn before the next call
            raise

    def _end_thread(self) -> None:
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
