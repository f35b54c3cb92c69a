"""What an image is built from: a Dockerfile with its folder, the user's, or one of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigurationError

_PACKAGE = Path(__file__).parent.parent
_BASE = re.compile(r"^ARG[ \t]+BASE=(?P<image>\S+)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_PACKAGES = re.compile(r'^ARG[ \t]+PACKAGES="(?P<packages>[^"\n]+)"', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to build."""

    image: str  # the name that it gets when the user gives none
    source: str  # for messages: what it is built from
    dockerfile: str  # its text
    folder: Path | None = None  # whose files the build may copy; None: only `files`
    files: Mapping[str, str] = field(default_factory=dict)  # beside those of the folder
    arguments: Mapping[str, str] = field(default_factory=dict)  # for its ARGs
    is_users: bool = False  # the Dockerfile, which then may lack what ours have
    debian_will_do: bool = True  # in place of the base, with its Python
    base_needs: str = "Python 3.10 or newer with its venv module"  # for messages

    @property
    def base(self) -> str:
        """What ``ARG BASE=`` says: the base that can be chosen. Empty: there is none."""
        found = _BASE.search(self.dockerfile)
        return found["image"] if found else ""

    @property
    def packages(self) -> str:
        """What ``ARG PACKAGES=`` says. Empty: there is none."""
        found = _PACKAGES.search(self.dockerfile)
        return found["packages"] if found else ""

    def with_base(self, image: str) -> str:
        """The Dockerfile, with that for its default base."""
        return _BASE.sub(f"ARG BASE={image}", self.dockerfile, count=1)


def _folder() -> Path:
    # In the package when it is installed, beside it in a checkout.
    for folder in (_PACKAGE / "images", _PACKAGE.parent / "images"):
        if (folder / "python" / "Dockerfile").is_file():
            return folder
    raise ConfigurationError("This installation of container-provisioner has no images to build.")


def shipped_images() -> list[str]:
    """The names of the images that come with the package."""
    return sorted(path.parent.name for path in _folder().glob("*/Dockerfile"))


def shipped_recipe(name: str) -> Recipe:
    """One of `shipped_images`."""
    folder = _folder() / name
    return Recipe(
        image=f"container-provisioner/{name}",
        source=f"images/{name} of this package",
        dockerfile=(folder / "Dockerfile").read_text(),
        folder=folder,
    )
