"""The kernelspecs of this host, which can run in a container as they are."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager

from ..errors import ConfigurationError
from .kernelspec import KERNEL_JSON, Kernelspec, Resource, read_fields

_LOCAL = "local-provisioner"


def host_kernelspecs(manager: KernelSpecManager) -> list[Kernelspec]:
    """Those that can be wrapped, by name: kernels that would run on this host, uncontained."""
    specs = []
    for name in sorted(manager.find_kernel_specs()):
        try:
            specs.append(host_kernelspec(manager, name))
        except ConfigurationError:
            continue
    return specs


def host_kernelspec(manager: KernelSpecManager, name: str = "") -> Kernelspec:
    """The kernelspec of this name; without one ``python3``, or the first there is.

    Raises `NoSuchKernel`, and `ConfigurationError` for one that cannot be wrapped: it names a
    provisioner of its own, or makes no sense.
    """
    if not name:
        known = [spec.name for spec in host_kernelspecs(manager)]
        if not known:
            raise ConfigurationError(
                "This host has no kernelspec to run in a container. Install a kernel beside this "
                "command ('pip install ipykernel'), or name an image."
            )
        name = NATIVE_KERNEL_NAME if NATIVE_KERNEL_NAME in known else known[0]
    folder = Path(manager.get_kernel_spec(name).resource_dir)
    try:
        fields = read_fields((folder / KERNEL_JSON).read_bytes())
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"Kernelspec {name!r} in {folder} cannot be used: {exc}.") from exc
    stanza = fields.get("metadata", {}).get("kernel_provisioner") or {}
    provisioner = stanza.get("provisioner_name", _LOCAL)
    if provisioner != _LOCAL:
        raise ConfigurationError(
            f"Kernelspec {name!r} is started by {provisioner!r} already. Name one that runs on "
            "this host, with --from; 'jupyter container-kernel install --list' shows them."
        )
    return Kernelspec(
        name=name, fields=fields, folder=str(folder), resources=read_resources(folder)
    )


def read_resources(folder: Path) -> dict[str, Resource]:
    """All files in a kernelspec's folder but its ``kernel.json``, by relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): Resource(
            content=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100)
        )
        for path in paths
        if path != folder / KERNEL_JSON and "__pycache__" not in path.parts
    }


def for_every_jupyter(spec: Kernelspec) -> Kernelspec:
    """The same for a folder that other environments' Jupyters read too.

    A bare ``python`` is the one of the Jupyter that starts it; spelled out it stays this one.
    """
    program, *arguments = spec.fields["argv"]
    major, minor = sys.version_info[:2]
    if program in ("python", f"python{major}", f"python{major}.{minor}"):
        program = sys.executable
    return replace(spec, fields={**spec.fields, "argv": [program, *arguments]})
