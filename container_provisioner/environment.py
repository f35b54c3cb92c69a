"""Which environment variables reach a kernel: an allow-list, never the server's environment.

Two halves. The plain half is ours or says nothing about anybody and is part of the container's
definition. The chosen half is what a person put somewhere (a kernelspec's ``env``, the traits
``env`` and ``env_passthrough``, ``KERNEL_*``); it may hold a token, so it is handed over in a file
that only the kernel's user can read, and never shows in ``docker inspect``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

PLAIN = ("LANG", "LANGUAGE", "LC_*", "TZ", "JPY_SESSION_NAME")

CHOSEN = ("KERNEL_*",)

# The kernel would look for a parent with this pid, find its init instead, and exit at once
# (ipykernel's parentpoller). The others only mean something on Windows and macOS.
# Shells keep the rest for themselves and end when somebody else sets them.
NEVER = (
    *("JPY_PARENT_PID", "JPY_INTERRUPT_EVENT", "IPY_INTERRUPT_EVENT", "PYTHONEXECUTABLE"),
    *("OPTIND", "PPID", "UID", "EUID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"),
)

# Makes the engine's init signal the kernel's whole process group, as LocalProvisioner's killpg.
INIT = {"TINI_KILL_PROCESS_GROUP": "1"}

HOME = "/home/kernel"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def choose_environment(
    launch: Mapping[str, str],
    *,
    kernelspec: Iterable[str],
    extra: Mapping[str, str],
    passthrough: Iterable[str],
) -> dict[str, str]:
    """Select from `launch`, which is the server's environment with Jupyter's additions.

    `kernelspec`: names in the kernelspec's ``env``, whose values (templates filled in) stand in
    `launch`; `extra`: the trait ``env``; `passthrough`: names or patterns such as ``AWS_*``.
    """
    wanted, named = (*PLAIN, *CHOSEN, *passthrough), set(kernelspec)
    chosen = {
        name: value for name, value in launch.items() if name in named or _matches(name, wanted)
    }
    chosen.update(extra)
    return {name: value for name, value in chosen.items() if name not in NEVER}


def split_environment(
    environment: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
    """The plain half, which anybody may see, and the half that goes into the private file."""
    plain = {name: value for name, value in environment.items() if _matches(name, PLAIN)}
    chosen = {name: value for name, value in environment.items() if name not in plain}
    return plain, chosen


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def environment_script(chosen: Mapping[str, str]) -> str:
    """The chosen half as shell assignments. Raises ValueError for what no shell can set."""
    for name, value in chosen.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name that an environment variable can have here")
        if "\0" in value:
            raise ValueError(f"the value of {name!r} holds a null character, which none can have")
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in chosen.items())


def with_environment_file(argv: tuple[str, ...], path: str) -> tuple[str, ...]:
    """`argv`, started by the image's shell after it has read the file. The shell is replaced."""
    return ("/bin/sh", "-c", f'. {shlex.quote(path)}; exec "$0" "$@"', *argv)
