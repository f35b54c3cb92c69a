"""A command in a fake container: a local process, with what the engine does around it."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import IO

from container_provisioner.errors import EngineUnavailable


class FakeExecution:
    def __init__(self, argv: Sequence[str]) -> None:
        self._errors = b""
        self._refusal = b""
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as exc:  # what Docker does: it says so on standard output
            self._refusal = f"exec failed: {argv[0]}: {exc.strerror}".encode()
            return
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors = self._process.stderr.read()

    def send(self, data: bytes) -> None:
        if self._refusal:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as exc:
            raise EngineUnavailable(str(exc)) from exc

    def end_input(self) -> None:
        self._close("stdin")

    def __iter__(self) -> Iterator[bytes]:
        if self._refusal:
            yield self._refusal
            return
        assert self._process.stdout is not None
        while data := self._process.stdout.read1(65536):  # type: ignore[attr-defined]
            yield data

    def errors(self) -> str:
        if not self._refusal:
            self._reader.join()
        return self._errors.decode()

    def exit_code(self) -> int:
        return 126 if self._refusal else self._process.wait()

    def close(self) -> None:
        if not self._refusal:
            self._process.kill()
            self._process.wait()
            for name in ("stdin", "stdout", "stderr"):
                self._close(name)

    def _close(self, name: str) -> None:
        if self._refusal:
            return
        pipe: IO[bytes] = getattr(self._process, name)
        with contextlib.suppress(OSError):
            pipe.close()
