"""The kernelspec's command, as it must read inside the container.

`jupyter_client` formats argv for this host: a bare ``python`` becomes the server's interpreter,
``{connection_file}`` and ``{resource_dir}`` become host paths. Here they are turned back.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigurationError

PRIVATE_DIR = "/run/kernel"
"""Where the kernel's private directory is mounted, read-only."""

CONNECTION_NAME, ENVIRONMENT_NAME = "connection.json", "environment"
SOCKETS_NAME, RESOURCES_NAME = "sockets", "resources"
CONNECTION_FILE = f"{PRIVATE_DIR}/{CONNECTION_NAME}"
ENVIRONMENT_FILE = f"{PRIVATE_DIR}/{ENVIRONMENT_NAME}"
SOCKETS_DIR = f"{PRIVATE_DIR}/{SOCKETS_NAME}"
RESOURCE_DIR = f"{PRIVATE_DIR}/{RESOURCES_NAME}"

_PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)*)?t?")


@dataclass(frozen=True, kw_only=True)
class KernelCommand:
    """A command for inside the container, and whether it needs the kernelspec's own files."""

    argv: tuple[str, ...]
    uses_resources: bool


def is_python(program: str) -> bool:
    """Whether a path or name is that of a Python interpreter."""
    return bool(_PYTHON.fullmatch(os.path.basename(program)))  # noqa: PTH119 - not always a path


def python_in(argv: Sequence[str]) -> str:
    """The interpreter in a kernel's command; empty when it is no Python's."""
    return next(filter(is_python, argv), "")


def container_command(
    formatted: Sequence[str],
    *,
    template: Sequence[str],
    connection_file: str,
    resource_dir: str,
    in_image: bool,
    interpreter: str = sys.executable,
) -> KernelCommand:
    """`formatted` is what `format_kernel_cmd` made of the kernelspec's `template`.

    In an image the host's interpreter is turned back into the bare name, to be looked up on the
    image's PATH; any other program stays as the kernelspec wrote it. Raises `ConfigurationError`
    for an empty argv.
    """
    if not formatted:
        raise ConfigurationError("The kernelspec's argv is empty.")
    program, *arguments = formatted
    if in_image and template and program == interpreter:
        bare = template[0] if is_python(template[0]) else program
        program = os.path.basename(bare)  # noqa: PTH119
    host_file = os.path.realpath(connection_file)
    argv = [
        arg.replace(host_file, CONNECTION_FILE).replace(connection_file, CONNECTION_FILE)
        for arg in arguments
    ]
    argv = [program, *argv]
    uses_resources = False
    if resource_dir:
        # Not …/kernels/python3 where the kernelspec's own folder is …/kernels/python.
        own = re.compile(re.escape(resource_dir) + r"(?![\w.-])")
        uses_resources = any(own.search(arg) for arg in argv)
        argv = [own.sub(RESOURCE_DIR, arg) for arg in argv]
    return KernelCommand(argv=tuple(argv), uses_resources=uses_resources)
