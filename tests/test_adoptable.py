"""What provisioner info says of a kernel, whichever version wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from container_provisioner.adoptable import AdoptableKernel
from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.store import KernelDirectory

IDENTITY = dict.fromkeys(
    ("launch_id", "container_id", "container_name", "image", "spec_digest"), "known"
)


def info(connection_info: object, **fields: Any) -> dict[str, Any]:
    directory = str(KernelDirectory.of("k").path)
    container = {"identity": {"kernel_id": "k", **IDENTITY}, "directory": directory, **fields}
    return {"kernel_id": "k", "connection_info": connection_info, "container": container}


def test_of_schema_1_the_connection_info_says_the_transport(runtime_dir: Path) -> None:
    for fields in ({}, {"transport": ""}):
        told = info({"transport": "tcp"}, **fields)
        assert AdoptableKernel.from_json(told).transport == "tcp"
    named = info({"transport": "tcp"}, transport="network")
    assert AdoptableKernel.from_json(named).transport == "network"
    for nothing in (None, {}, []):
        assert AdoptableKernel.from_json(info(nothing)).transport == ""
    with pytest.raises(KernelNotAdoptable, match="transport"):
        AdoptableKernel.from_json(info({"transport": 5}))
