"""``jupyter container-kernel`` in this process: what it printed, and how it ended."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from dataclasses import dataclass
from unittest.mock import patch

from container_provisioner.cli import main


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    stdout: str
    stderr: str


def command(*arguments: str) -> Ended:
    """Run it with standard output and error in pipes, as it were."""
    stdout, stderr = io.StringIO(), io.StringIO()
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
    return Ended(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())
