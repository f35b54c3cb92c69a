"""This process's own side: packages, folders, the server's extension, what was left behind."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from jupyter_core.paths import jupyter_config_path
from packaging.requirements import Requirement

from ..errors import ConfigurationError
from ..store import own_lease, private_root
from .finding import Finding

DISTRIBUTION = "container-provisioner"
RUNTIME_FOLDER = "runtime folder"
EXTENSION = Path("jupyter_server_config.d", "container_provisioner.json")


def examine_installation() -> Iterator[Finding]:
    """Needs no engine."""
    yield from _packages()
    yield from _folders()
    yield from _extension()


def _packages() -> Iterator[Finding]:
    """What is installed, against the floors in this distribution's own metadata."""
    present, problems = [f"Python {platform.python_version()}"], []
    for text in requires(DISTRIBUTION) or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            problems.append(f"{wanted.name} is not installed")
            continue
        present.append(f"{wanted.name} {found}")
        if not wanted.specifier.contains(found, prereleases=True):
            problems.append(f"{wanted.name} is {found} and has to be {wanted.specifier}")
    if problems:
        yield Finding(
            subject="packages",
            outcome="problem",
            says="; ".join(problems),
            cure=f"pip install --upgrade {DISTRIBUTION}",
        )
    else:
        yield Finding(subject="packages", outcome="ok", says=", ".join(present))


def _folders() -> Iterator[Finding]:
    try:
        root = private_root()
        own_lease()
    except (ConfigurationError, OSError) as exc:
        yield Finding(
            subject=RUNTIME_FOLDER,
            outcome="problem",
            says=str(exc).partition(" Set JUPYTER_RUNTIME_DIR")[0],  # which is the cure
            cure="Set JUPYTER_RUNTIME_DIR to a short path of your own, on a local disk.",
        )
    else:
        yield Finding(subject=RUNTIME_FOLDER, outcome="ok", says=f"{root}; files can be locked")


def _extension() -> Iterator[Finding]:
    try:
        found = version("jupyter_server")
    except PackageNotFoundError:
        yield Finding(
            subject="server extension",
            outcome="note",
            says="there is no jupyter_server here",
            cure="Nothing to do for scripts; else: pip install jupyter_server",
        )
        return
    says = [_enabled(Path(folder) / EXTENSION) for folder in jupyter_config_path()]
    if next((said for said in says if said is not None), False):
        yield Finding(
            subject="server extension", outcome="ok", says=f"enabled, for jupyter_server {found}"
        )
    else:
        yield Finding(
            subject="server extension",
            outcome="note",
            says="not enabled: kernels do not outlive their server, and no pool is kept warm",
            cure="jupyter server extension enable container_provisioner",
        )


def _enabled(path: Path) -> bool | None:
    """None when the file does not say."""
    try:
        return bool(json.loads(path.read_bytes())["ServerApp"]["jpserver_extensions"][path.stem])
    except (OSError, ValueError, KeyError, TypeError):
        return None
