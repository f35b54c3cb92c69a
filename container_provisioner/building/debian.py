"""A root filesystem of Debian's packages, where no registry can be reached: mmdebstrap makes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import ContainerProvisionerError

SUITE = "trixie"  # Python 3.13

# Named, because a system that is not Debian does not trust Debian's key by itself.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TOOLS = ("mmdebstrap", "debian-archive-keyring")
_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120")
_LEFT_OUT = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]

# Seconds that mmdebstrap may take to clear up after itself.
_END_SECONDS = 20.0

Notice = Callable[[str], None]


class NoRootFilesystem(ContainerProvisionerError):
    """It could not be made; the message is the reason, as part of a sentence."""


async def root_filesystem(
    tarball: Path, *, packages: Sequence[str], notice: Notice, suite: str = SUITE, mirror: str = ""
) -> None:
    """Write a minimal Debian `suite` with `packages` to `tarball`: 120 MB, in 20 to 60 seconds.

    `mirror` is where the packages come from; empty: the one that mmdebstrap knows. Its tools are
    installed when they are missing, and this is root on Debian or Ubuntu. `notice` is told what
    takes time. Raises `NoRootFilesystem`.
    """
    if not (shutil.which("mmdebstrap") and Path(KEYRING).exists()):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise NoRootFilesystem(
                f"{' and '.join(_TOOLS)} are not installed, which root on Debian or Ubuntu could do"
            )
        notice(f"Installing {' and '.join(_TOOLS)}…")
        await _run(*_APT, "update")
        await _run(*_APT, "install", "-y", "--no-install-recommends", *_TOOLS)
    notice(f"Making a base image of Debian's packages ({suite}), which takes up to a minute…")
    await _run(
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
        *(*_LEFT_OUT, f"--keyring={KEYRING}", suite, str(tarball), *filter(None, [mirror])),
    )


async def _run(*argv: str) -> None:
    environment: Mapping[str, str] = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), _END_SECONDS)
        raise
    if process.returncode:
        last = output.decode(errors="replace").strip().rpartition("\n")[2]
        raise NoRootFilesystem(f"{argv[0]} ended with exit code {process.returncode}: {last}")
