"""The kernelspecs in an image, without running anything in it.

An image is somebody else's. Its kernelspecs say how a kernel is started in it, and nothing in them
may reach further: not its variables, which `jupyter_client` would fill from the server's, and no
script for the browser.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping
from string import Template
from typing import Any

from ..command import is_python
from ..engine.base import ImageInfo
from ..engine.calls import Engine
from ..errors import EngineError, EngineUnavailable
from ..image import passwd_entries, unstarted
from .image_files import ImageFiles
from .kernelspec import KERNEL_JSON, NAME, Kernelspec, Resource, read_fields

# Front ends of before Notebook 7 run it, in the page, with all that its user may.
_SCRIPT = "kernel.js"
_LINKED_FOLDERS = 50
# In the file of ipykernel that writes kernelspecs, since it can encrypt.
_ENCRYPTS = b"supported_encryption"


async def image_kernelspecs(
    engine: Engine, info: ImageInfo, log: logging.Logger
) -> list[Kernelspec]:
    """All that Jupyter would find in the image, by name; where two have one name, the one it
    would take. One for ipykernel when there is none and an interpreter on PATH has that package.

    Looks in ``JUPYTER_PATH``, the user's data directory, and ``share/jupyter`` below the Pythons
    on PATH, ``VIRTUAL_ENV``, ``CONDA_DIR``, /opt/conda, /usr/local and /usr. A kernelspec that
    makes no sense is reported and left out. Raises `EngineError`.
    """
    async with unstarted(engine, info.id) as container:
        files = ImageFiles(engine, container, info.environment)
        found: dict[str, Kernelspec] = {}
        for folder in files.data_folders(await _home(engine, container, info)):
            for spec in await _kernelspecs_in(files, posixpath.join(folder, "kernels"), log):
                found.setdefault(spec.name, spec)
        if not found and (made_up := await _ipykernel(files)) is not None:
            found[made_up.name] = made_up
    return sorted(found.values(), key=lambda spec: spec.name)


async def _home(engine: Engine, container: str, info: ImageInfo) -> str:
    if home := info.environment.get("HOME"):
        return home
    user = info.user.partition(":")[0] or "0"
    for fields in await passwd_entries(engine, container):
        if user in (fields[0], fields[2]) and len(fields) > 5:
            return fields[5]
    return ""


async def _kernelspecs_in(files: ImageFiles, folder: str, log: logging.Logger) -> list[Kernelspec]:
    resources, links = await files.tree(folder)
    by_name: dict[str, dict[str, Resource]] = {}
    for path, resource in resources.items():
        name, _, rest = path.partition("/")
        by_name.setdefault(name, {})[rest] = resource
    # Links in place of a kernelspec's folder, which the engine follows within the image.
    linked = [name for name in links if "/" not in name and name not in by_name]
    for name in linked[:_LINKED_FOLDERS]:
        where = posixpath.join(folder, name)
        try:
            by_name[name], _ = await files.tree(where)
        except EngineUnavailable:
            raise
        except EngineError as exc:  # it leads to a file, or to itself
            log.warning("The kernelspec in %r of the image is left out: %s.", where, exc)
    specs = []
    for name, beside in by_name.items():
        if KERNEL_JSON not in beside:
            continue
        where = posixpath.join(folder, name)
        try:
            if not NAME.fullmatch(name):
                raise ValueError("its name is not one that Jupyter allows")
            fields = read_fields(beside.pop(KERNEL_JSON).content)
        except ValueError as exc:
            log.warning("The kernelspec in %r of the image is left out: %s.", where, exc)
            continue
        beside.pop(_SCRIPT, None)
        specs.append(
            Kernelspec(
                name=name.lower(),
                fields=await _as_in_image(files, fields, where),
                folder=where,
                resources=beside,
            )
        )
    return specs


async def _as_in_image(files: ImageFiles, fields: dict[str, Any], folder: str) -> Mapping[str, Any]:
    """Fill in what `jupyter_client` in the image would; this host's would fill in other values."""
    prefix = posixpath.normpath(posixpath.join(folder, "../../../.."))
    program, *arguments = fields["argv"]
    argv = [await _program(files, program, prefix), *arguments]
    fields["argv"] = [
        arg.replace("{resource_dir}", folder).replace("{prefix}", prefix) for arg in argv
    ]
    if "env" in fields:
        fields["env"] = {
            name: Template(value).safe_substitute(files.environment).replace("$", "$$")
            for name, value in fields["env"].items()
        }
    return fields


async def _program(files: ImageFiles, program: str, prefix: str) -> str:
    """A bare ``python`` is the one of Jupyter, beside which the kernelspec was installed."""
    if "/" in program or not is_python(program):
        return program
    names = (program, "python3", "python")
    beside = posixpath.join(prefix, "bin")
    found = await files.find_python(names, (beside, *files.path))
    first = await files.find_python((program,), files.path)
    return program if found is None or found == first else found


async def _ipykernel(files: ImageFiles) -> Kernelspec | None:
    """What ``ipykernel install`` would write, for the first interpreter that has the package."""
    for folder in files.path:
        interpreter = await files.find_python(("python3", "python"), (folder,))
        if interpreter is None:
            continue
        for packages in await files.python_folders(interpreter):
            if await files.target(f"{packages}/ipykernel_launcher.py") is None:
                continue
            package = f"{packages}/ipykernel"
            metadata: dict[str, Any] = {"debugger": True}
            if _ENCRYPTS in await files.file(f"{package}/kernelspec.py"):
                metadata["supported_encryption"] = ["curve"]
            name = posixpath.basename(interpreter)
            is_first = await files.find_python((name,), files.path) == interpreter
            logos, _ = await files.tree(f"{package}/resources")
            return Kernelspec(
                name="python3",
                fields={
                    "argv": [
                        *(name if is_first else interpreter, "-m", "ipykernel_launcher"),
                        *("-f", "{connection_file}"),
                    ],
                    "display_name": "Python 3 (ipykernel)",
                    "language": "python",
                    "metadata": metadata,
                },
                resources=logos,
            )
    return None
