"""A kernelspec as it will be written: what was found, and the stanza."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .kernelspec import KERNEL_JSON, NAME, Kernelspec, Resource, printable
from .on_host import read_resources
from .provisioners import PROVISIONER, SWARM_PROVISIONER

# A tag says nothing when it is the one that everybody gets.
_TAG = re.compile(
    r"(?P<name>[^/:@]+)(:(?P<tag>[^/:@]+))?(@[a-z0-9]+:(?P<digest>[0-9a-f]{12})[0-9a-f]*)?"
)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The contents of a kernelspec's folder."""

    name: str
    fields: Mapping[str, Any]  # of kernel.json
    resources: Mapping[str, Resource]

    @property
    def display_name(self) -> str:
        return str(self.fields["display_name"])

    @property
    def stanza(self) -> Mapping[str, Any]:
        """Which provisioner, and its settings."""
        return dict(self.fields["metadata"]["kernel_provisioner"])

    @property
    def config(self) -> Mapping[str, Any]:
        """The stanza's settings."""
        return dict(self.stanza["config"])

    def having(self, **settings: Any) -> Draft:
        """The same with further settings in its stanza."""
        stanza = {**self.stanza, "config": {**self.config, **settings}}
        metadata = {**self.fields["metadata"], "kernel_provisioner": stanza}
        return replace(self, fields={**self.fields, "metadata": metadata})

    def write(self, folder: Path) -> None:
        """Make `folder` and what is in it."""
        folder.mkdir()
        for name, resource in self.resources.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(resource.content)
            if resource.executable:
                target.chmod(target.stat().st_mode | 0o111)
        (folder / KERNEL_JSON).write_text(json.dumps(self.fields, indent=1) + "\n")

    def is_in(self, folder: Path) -> bool:
        """Whether the folder holds exactly this."""
        try:
            fields = json.loads((folder / KERNEL_JSON).read_bytes())
            return bool(fields == self.fields) and read_resources(folder) == self.resources
        except (OSError, ValueError):
            return False


def draft(
    spec: Kernelspec,
    *,
    config: Mapping[str, Any],
    provisioner: str = PROVISIONER,
    name: str = "",
    display_name: str = "",
) -> Draft:
    """`spec` with a stanza of these settings; `config` names the image, if there is one.

    Without a `name` it is called after the kernel and where it runs: ``python3-scipy-notebook``,
    ``python3-container``, ``python3-scipy-notebook-swarm``. Raises `ConfigurationError` for a name
    that Jupyter does not allow.
    """
    where = image_word(str(config.get("image", "")))
    end = "-swarm" if provisioner == SWARM_PROVISIONER else ""
    name = (name or f"{spec.name}-{where or 'container'}{end}").lower()
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be a kernelspec's name: letters without accents, digits, '.', '_' "
            "and '-' can."
        )
    stanza = {"provisioner_name": provisioner, "config": dict(config)}
    metadata = {**spec.fields.get("metadata", {}), "kernel_provisioner": stanza}
    title = display_name or f"{spec.display_name} in {where or 'a container'}"
    if end and not display_name:
        title += " (swarm)"
    fields = {
        **spec.fields,
        "display_name": printable(title),
        "language": spec.language,
        "metadata": metadata,
    }
    return Draft(name=name, fields=fields, resources=spec.resources)


def image_word(image: str) -> str:
    """An image as part of a kernelspec's name: of
    ``quay.io/jupyter/scipy-notebook:2025-01-06`` it is ``scipy-notebook-2025-01-06``."""
    found = _TAG.fullmatch(image.rpartition("/")[2])
    if found is None:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", image).strip("-")
    tag = found["tag"] if found["tag"] != "latest" else None
    return "-".join(filter(None, (found["name"], tag or found["digest"])))
