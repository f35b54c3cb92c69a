"""Python environments beside the one that runs the tests, made on the spot.

Their packages are copies of ours where the Python is of our version (no registry is needed then),
else they are installed by pip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

import container_provisioner

SYSTEM_PYTHON = "/usr/bin/python3"  # the distribution's


def version_of(interpreter: str) -> str:
    """Such as ``3.11``."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.check_output([interpreter, "-c", code], text=True).strip()


def closure(*names: str) -> list[Distribution]:
    """These distributions and all that they need, as installed here."""
    found: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        found[name] = distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return list(found.values())


def install(target: Path, *names: str, interpreter: str = SYSTEM_PYTHON) -> Path:
    """Put packages for `interpreter` into the folder `target`, readable for everybody.

    The package under test comes along as it is, with its entry points, when it is named.
    """
    found = closure(*names)
    ours = [dist for dist in found if dist.name == "container-provisioner"]
    version = version_of(interpreter)
    if version == version_of(sys.executable):
        for dist in found:
            _copy(dist, target)
    else:
        wanted = [f"{d.name}=={d.version}" for d in found if d not in ours]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        foreign = ["--target", str(target), "--python-version", version, "--only-binary=:all:"]
        subprocess.run([*pip, *foreign, *wanted], check=True)
        for dist in ours:
            _copy(dist, target)
    if ours:
        package = Path(container_provisioner.__file__).parent
        shutil.copytree(package, target / package.name, dirs_exist_ok=True)
    subprocess.run(["chmod", "-R", "a+rX", str(target)], check=True)
    return target


def _copy(dist: Distribution, target: Path) -> None:
    for file in dist.files or ():
        source = Path(str(file.locate()))
        if ".." in file.parts or not source.is_file():  # scripts and manual pages
            continue
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / file)


def make_venv(folder: Path, *names: str, interpreter: str = SYSTEM_PYTHON) -> str:
    """A virtual environment with these packages; returns its interpreter."""
    # Without pip: Debian's Python cannot install it into a virtual environment by itself.
    subprocess.run([interpreter, "-m", "venv", "--without-pip", str(folder)], check=True)
    site_packages = next(folder.glob("lib/python*/site-packages"))
    install(site_packages, *names, interpreter=interpreter)
    return str(folder / "bin" / "python")
