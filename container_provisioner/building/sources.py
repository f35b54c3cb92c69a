"""A user's folder as a recipe: its Dockerfile, or one for the packages that it names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigurationError
from .recipe import Recipe, shipped_recipe

# In this order, the first that is there.
DOCKERFILES = ("Dockerfile", "Containerfile")
ENVIRONMENTS = ("environment.yml", "environment.yaml")
REQUIREMENTS = "requirements.txt"
PROJECT = "pyproject.toml"

# Lines of requirements that mean other files of the folder.
_LOCAL = re.compile(
    r"^(-[rc]\b|--requirement|--constraint|--find-links|\.|/|file:|\S+\s*@\s*file:)"
)
_EDITABLE = re.compile(r"^(-e\b|--editable\b)", re.MULTILINE)
_BUILDABLE = re.compile(r"^\[(project|build-system|tool\.poetry)\]", re.MULTILINE)
_PACKAGE = re.compile(r"^(?:[\w./-]+::)?(?P<name>[\w.-]+)\s*(?:==?\s*(?P<version>\d+\.\d+))?")

# What pip's environment has or brings along.
_NOT_CONDA_ONLY = {"python", "pip", "setuptools", "wheel", "ipykernel"}

_CONDA = """\
ARG BASE=condaforge/miniforge3:latest

FROM ${BASE} AS packages
COPY . /build/
WORKDIR /build
RUN if [ -e host-ca.crt ]; then \\
        export PIP_CERT=/build/host-ca.crt REQUESTS_CA_BUNDLE=/build/host-ca.crt; \\
    fi \\
    && export CONDA_ALWAYS_YES=1 \\
    && conda env create --prefix /opt/kernel --file environment.yml \\
    && { /opt/kernel/bin/python -c 'import ipykernel' 2>/dev/null \\
        || conda install --prefix /opt/kernel ipykernel; }

FROM ${BASE}
COPY --from=packages /opt/kernel /opt/kernel
ENV PATH=/opt/kernel/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 1000:1000
CMD ["python"]
"""


def folder_recipe(folder: Path) -> Recipe:
    """Raises `ConfigurationError` when the folder names nothing that an image can be built from."""
    image = (re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-") or "my") + (
        "-kernel"
    )
    if found := _first(folder, *DOCKERFILES):
        return Recipe(
            image=image,
            source=found.name,
            dockerfile=_text(found),
            folder=folder,
            is_users=True,
            debian_will_do=False,
        )
    if found := _first(folder, *ENVIRONMENTS):
        return replace(_of_environment(found), image=image)
    if found := _first(folder, REQUIREMENTS):
        recipe = _of_requirements(folder, _text(found), "the requirements.txt")
        return replace(recipe, image=image, source=found.name)
    if found := _first(folder, PROJECT):
        if not _BUILDABLE.search(_text(found)):
            raise ConfigurationError(
                f"{found} describes no package: it has neither [project] nor [build-system]. "
                "Write what the kernel needs into a requirements.txt."
            )
        recipe = _with_pip(image, "ipykernel .")
        return replace(recipe, source=found.name, folder=folder, files={})
    raise ConfigurationError(
        f"There is nothing to build an image from in {folder.absolute()}: no "
        f"{', '.join((DOCKERFILES[0], ENVIRONMENTS[0], REQUIREMENTS))} or {PROJECT}."
    )


def _first(folder: Path, *names: str) -> Path | None:
    return next((path for name in names if (path := folder / name).is_file()), None)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc}.") from exc


def _with_pip(image: str, packages: str) -> Recipe:
    """The Dockerfile of the shipped image, for other packages."""
    shipped = shipped_recipe("python")
    return replace(shipped, image=image, folder=None, arguments={"PACKAGES": packages})


def _of_requirements(folder: Path, text: str, where: str) -> Recipe:
    """The folder is sent only when a line means a file of it: it may be full of data."""
    if _EDITABLE.search(text):
        raise ConfigurationError(
            f"{where} of {folder.absolute()} has an editable install, which means a folder of this "
            "machine. Without '-e', a copy is installed into the image."
        )
    recipe = _with_pip("", "ipykernel -r requirements.txt")
    if any(_LOCAL.match(line.strip()) for line in text.splitlines()):
        return replace(recipe, folder=folder, files={REQUIREMENTS: text})
    return replace(recipe, files={REQUIREMENTS: text})


def _of_environment(path: Path) -> Recipe:
    """With conda where a package needs it, else with pip alone, which is smaller."""
    try:
        content: Any = yaml.safe_load(_text(path))
        dependencies = list(content["dependencies"])
    except (yaml.YAMLError, KeyError, TypeError) as exc:
        raise ConfigurationError(f"{path} is no conda environment: {exc}.") from exc
    packages: dict[str, str | None] = {}
    requirements: list[str] = []
    for dependency in dependencies:
        if isinstance(dependency, dict):
            requirements += [str(line) for line in dependency.get("pip") or ()]
        elif found := _PACKAGE.match(str(dependency)):
            packages[found["name"].lower()] = found["version"]
    text = "".join(f"{line}\n" for line in requirements)
    of_conda = sorted(packages.keys() - _NOT_CONDA_ONLY)
    if not of_conda:
        recipe = _of_requirements(path.parent, text, f"the pip part of {path.name}")
        python = packages.get("python")
        return replace(
            recipe,
            source=f"{path.name}, by pip: it names no conda packages",
            dockerfile=recipe.with_base(f"python:{python}-slim") if python else recipe.dockerfile,
            debian_will_do=python is None,
        )
    needs_folder = any(_LOCAL.match(line) for line in requirements)
    return Recipe(
        image="",
        source=path.name,
        dockerfile=_CONDA,
        folder=path.parent if needs_folder else None,
        files={"environment.yml": _text(path)},
        debian_will_do=False,
        base_needs=f"conda, for {', '.join(of_conda)} of {path.name}; what pip can install "
        "could stand in a requirements.txt instead",
    )
