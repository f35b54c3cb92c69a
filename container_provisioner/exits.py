"""How a kernel ended, and the one line that tells a person why."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal

# What the engine's init (tini) and shells answer when a program cannot be run.
COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND = 126, 127
# What is left of a process that SIGKILL ended: the out-of-memory killer's, too.
KILLED = 128 + signal.SIGKILL

# Colours, moves of the cursor, titles of windows.
ESCAPE_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
# What ipykernel prints at every start where no JPY_PARENT_PID is set, or over tcp: no news. By
# lines, because the log that is read can begin in the middle of it.
_BANNER = re.compile(
    r"NOTE: When using the `ipython kernel` entry point|To exit, you will have to explicitly quit"
    r'|"quit" from a client, or using Ctrl|To read more about this, see https://github.com/ipython'
    r"|To connect another client to this kernel, use:|--existing \S+$"
    r"|\[IPKernelApp\] WARNING \| Kernel is running over TCP without encryption"
)
_NO_COMMAND = "failed to exec pid1"  # says Podman's init, and ends with 1
_NO_KERNEL = re.compile(r"No module named '?([\w.]+)'?")


@dataclass(frozen=True, kw_only=True)
class ExitStatus:
    """The end of one run of a container.

    `code` is 128 + n after signal n, as in a shell. `removed` means the container vanished
    with its exit code; `code` is then 1.
    """

    code: int
    oom_killed: bool = False
    removed: bool = False
    error: str = ""

    @property
    def signal_name(self) -> str | None:
        """The name of the signal that ended the kernel, such as ``SIGKILL``; None if none did."""
        try:
            return signal.Signals(self.code - 128).name
        except ValueError:
            return None

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it was the kernel itself that memory ran out for.

        The engine says `oom_killed` as soon as any process of the container was killed for it;
        only together with SIGKILL was it the kernel.
        """
        return self.oom_killed and self.code == KILLED


def format_size(size: int) -> str:
    """Bytes as people write them: 2147483648 is ``2 GiB``."""
    if size == 1:
        return "1 byte"
    value = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if round(value, 1) < 1024:
            return f"{round(value, 1):g} {unit}"
        value /= 1024
    return f"{round(value, 2):g} GiB"


Cause = Literal["requested", "removed", "memory", "error", "signal", "exit"]


def cause_of(status: ExitStatus, *, requested: bool = False) -> Cause:
    """One word for it, to count by. `requested`: this process had asked it to end, in any way.

    The others are ends of their own accord or from outside; "error" is the engine's.
    """
    if requested:
        return "requested"
    if status.removed:
        return "removed"
    if status.ran_out_of_memory:
        return "memory"
    if status.error:
        return "error"
    return "signal" if status.signal_name else "exit"


def explain_exit(
    status: ExitStatus, *, requested: bool = False, memory_limit: int | None = None
) -> str:
    """Why the kernel ended, in a few words. `requested`: this process had sent the signal, which
    then may be ours and not the out-of-memory killer's."""
    if status.removed:
        return "its container was removed from outside"
    if status.ran_out_of_memory and not requested:
        limit = f" (memory_limit is {format_size(memory_limit)})" if memory_limit else ""
        return f"it ran out of memory{limit}"
    if status.error:
        return status.error
    if status.signal_name:
        by_whom = "at our request" if requested else "from outside or by itself"
        return f"it was ended by {status.signal_name} {by_whom} (exit code {status.code})"
    return f"it ended with exit code {status.code}"


def explain_start(status: ExitStatus, log: str, *, argv: tuple[str, ...], image: str) -> str | None:
    """Names the image that has no kernel in it; None when that is not what happened."""
    if status.code in (COMMAND_NOT_EXECUTABLE, COMMAND_NOT_FOUND) or _NO_COMMAND in log:
        return (
            f"image {image!r} has no command {argv[0]!r}, so no kernel can be started in it; "
            "use an image that holds a kernel, or correct the kernelspec's argv"
        )
    absent = (match[1] for match in _NO_KERNEL.finditer(log))
    missing = next((module for module in absent if module.split(".")[0] in argv), None)
    if missing:
        return (
            f"image {image!r} has no kernel in it (no module named {missing!r}); "
            "install the kernel's package in the image"
        )
    return None


def log_tail(log: str, *, lines: int = 5, limit: int = 600) -> str:
    """The last lines of a log as one printable line, at most `limit` characters of it.

    The text comes from inside the sandbox: escape sequences and control characters are taken
    out, so that it cannot play tricks in a terminal or forge lines in the server's log.
    """
    printable = [
        "".join(char for char in ESCAPE_SEQUENCES.sub("", line) if char.isprintable()).strip()
        for line in log.splitlines()
    ]
    news = [line for line in printable if line and not _BANNER.match(line)]
    tail = " | ".join(news[-lines:])
    return tail if len(tail) <= limit else "…" + tail[-limit:]
