"""A kernelspec as it was found: the fields of its ``kernel.json`` and the files beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# As jupyter_client's KernelSpecManager has them.
NAME = re.compile(r"[A-Za-z0-9._-]+")
KERNEL_JSON = "kernel.json"
# What `KernelSpec` takes; others it stumbles over.
_FIELDS = {
    *("argv", "display_name", "language", "interrupt_mode", "env", "metadata"),
    *("kernel_protocol_version", "mimetype"),
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A file beside ``kernel.json``: a logo, or a script that argv names."""

    content: bytes
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Kernelspec:
    """`folder` is where it was found, in the image or on this host; empty when it was made up."""

    name: str
    fields: Mapping[str, Any]
    folder: str = ""
    resources: Mapping[str, Resource] = field(default_factory=dict)  # by path, relative to it

    @property
    def display_name(self) -> str:
        return printable(self.fields.get("display_name") or self.name)

    @property
    def language(self) -> str:
        return printable(self.fields.get("language") or "")


def printable(text: str) -> str:
    """Without what would play tricks in a terminal: the text may be a stranger's."""
    return "".join(char for char in text if char.isprintable()).strip()


def read_fields(text: bytes) -> dict[str, Any]:
    """The fields of a ``kernel.json``, of the types that jupyter_client documents.

    See "Kernel specs" in its documentation. Raises ValueError that says what is wrong.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"it is no JSON ({exc})") from exc
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")
    argv = fields.get("argv")
    if not (isinstance(argv, list) and argv and all(isinstance(arg, str) for arg in argv)):
        raise ValueError("argv is no list of words")
    for name in _FIELDS - {"argv"}:
        kind = dict if name in ("metadata", "env") else str
        if not isinstance(fields.get(name, kind()), kind):
            raise ValueError(f"{name} is of the wrong type")
    if not all(isinstance(value, str) for value in fields.get("env", {}).values()):
        raise ValueError("env has a value that is no text")
    if fields.get("interrupt_mode", "signal") not in ("signal", "message"):
        raise ValueError("interrupt_mode is neither 'signal' nor 'message'")
    return {name: value for name, value in fields.items() if name in _FIELDS}
