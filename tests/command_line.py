"""``jupyter container-kernel`` in this process: what it printed, and how it ended."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from container_provisioner.cli import main


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def command(*arguments: str) -> Ended:
    """Run it with standard output and error in pipes, as it were."""
    stdout, stderr = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)
    )
    # As in a process of its own: the messages that a user sees are partly log lines.
    log = logging.getLogger("container_provisioner")
    handler = logging.StreamHandler(stderr)
    log.addHandler(handler)
    level = log.level
    try:
        with (
            patch.object(sys, "argv", ["jupyter-container-kernel", *arguments]),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            main()
    except SystemExit as exc:
        code = exc.code
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert isinstance(code, int)
    return Ended(code=code, stdout=_written(stdout), stderr=_written(stderr))


def _written(pipe: io.TextIOWrapper) -> str:
    pipe.seek(0)
    return pipe.read()
