"""An archive passed on between a command in a container and this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import IO

from ..errors import CopyFailed, EngineError
from .transfer import Transfer
from .unpacking import Copied

_PIECE = 256 * 1024  # bytes


def pass_on(read: Transfer, stream: IO[bytes]) -> Copied:
    """The archive as it is. Raises `CopyFailed`."""
    while data := read.answer.read1(_PIECE):
        stream.write(data)
    stream.flush()
    read.finish()
    return Copied()


def send(write: Transfer, stream: IO[bytes]) -> Copied:
    """The stream as it is."""
    # Unbuffered: this thread may still wait in there when the process ends.
    descriptor = stream.fileno()
    while data := os.read(descriptor, _PIECE):
        write.execution.send(data)
    return Copied()


def feed(write: Transfer, work: Callable[[], Copied]) -> Copied:
    """Let `work` send while the answer is read, which says why it ends before it has all.

    Raises `CopyFailed`.
    """
    done: list[Copied] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except EngineError:
            pass  # it has ended; its exit code says why
        except Exception as exc:  # noqa: BLE001 - raised by the thread that waits
            failures.append(exc)
        finally:
            write.execution.end_input()  # else both sides would wait for the other for ever

    feeder = threading.Thread(target=run, daemon=True)
    feeder.start()
    try:
        write.finish()
    except CopyFailed:
        feeder.join(1)
        if not failures:
            raise
    feeder.join()
    for exc in failures:
        if isinstance(exc, OSError):
            raise CopyFailed(f"{exc.filename}: {exc.strerror or exc}.") from exc
        if isinstance(exc, RecursionError):  # tarfile descends by recursion
            raise CopyFailed("Its folders are nested too deep to be copied.") from exc
        raise exc
    return done[0] if done else Copied()
