"""A reader's place: a checkout, a home and a Jupyter of their own, and a virtual environment."""

from __future__ import annotations

import json
import os
import shutil
import site
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from . import documents
from .server_process import OTHERS

CHECKOUT = Path(__file__).parent.parent
NOT_COPIED = (
    ".venv",
    ".git",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "dist",
    "build",
    "*.egg-info",
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """`run` does what a document of the checkout says. `environment` is the reader's."""

    checkout: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def venv(self) -> Path:
        return self.checkout / ".venv"

    def run(self, document: str, cwd: str = "", **environment: str) -> None:
        """`cwd` is below the checkout; the other keyword arguments are variables besides."""
        self.environment.update(environment)
        documents.run(self.checkout / document, self.checkout / cwd, self.environment)

    def make_venv(self) -> None:
        """It has what this one has, and has for itself what is installed into it."""
        venv.create(self.venv, symlinks=True)
        self.environment["PATH"] = f"{self.venv}/bin:{self.environment['PATH']}"
        ours = next(path for path in site.getsitepackages() if path.startswith(sys.prefix))
        own = next(self.venv.glob("lib/python*/site-packages"))
        (own / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        for script in Path(sys.prefix, "bin").iterdir():
            with open(script, "rb") as file:
                if not file.readline(500).startswith(f"#!{sys.prefix}".encode()):
                    continue
                copy = self.venv / "bin" / script.name
                copy.write_bytes(f"#!{self.venv}/bin/python\n".encode() + file.read())
                copy.chmod(0o755)
        # Jupyter's settings and data. Its kernelspecs are those of a new environment.
        shutil.copytree(Path(sys.prefix, "etc", "jupyter"), self.venv / "etc" / "jupyter")
        data = Path("share", "jupyter")
        ignore = shutil.ignore_patterns("kernels")
        shutil.copytree(Path(sys.prefix, data), self.venv / data, symlinks=True, ignore=ignore)
        python = data / "kernels" / "python3"
        shutil.copytree(Path(sys.prefix, python), self.venv / python)
        (self.venv / "installed").touch()  # as `make setup` does
        if sys.prefix != sys.base_prefix:  # where most of it is, for kernels without an image
            self.environment["CONTAINER_PROVISIONER_MOUNTS"] = f"{sys.prefix}:{sys.prefix}"


@pytest.fixture(name="place")
def place_fixture(runtime_dir: Path, folder: Path) -> Place:
    """Where nothing of this user's Jupyter is seen, and nothing of it is changed."""
    ignore = shutil.ignore_patterns(*NOT_COPIED)
    place = Place(checkout=folder / "checkout")
    shutil.copytree(CHECKOUT, place.checkout, ignore=ignore)
    home = folder / "home"
    for name in (".cache", ".config"):  # pip's settings and downloads are those of this user
        (home / name).mkdir(parents=True)
        (home / name / "pip").symlink_to(Path.home() / name / "pip")
    for name in [name for name in place.environment if name.startswith(("JUPYTER_", "IPYTHON"))]:
        del place.environment[name]
    place.environment.pop("VIRTUAL_ENV", None)
    place.environment["HOME"] = str(home)
    place.environment["JUPYTER_RUNTIME_DIR"] = str(runtime_dir)
    settings = home / ".jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir()
    server = {"allow_root": True, "jpserver_extensions": dict.fromkeys(OTHERS, False)}
    settings.write_text(json.dumps({"ServerApp": server}))
    place.make_venv()
    return place
