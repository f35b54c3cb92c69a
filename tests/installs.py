"""Kernelspecs that ``install`` writes, where Jupyter finds them in this test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .command_line import Ended, command

STACKS_IMAGE = "container-provisioner-test/stacks:1"  # as the Jupyter docker-stacks are built


@pytest.fixture(name="prefix")
def prefix_fixture(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Jupyter looks, in this test."""
    path = runtime_dir.parent / "prefix"
    monkeypatch.setenv("JUPYTER_PATH", f"{path}/share/jupyter:{os.environ['JUPYTER_PATH']}")
    return path


def install(prefix: Path, *arguments: str) -> Ended:
    return command("install", "--prefix", str(prefix), *arguments)


def installed(prefix: Path) -> dict[str, Any]:
    """Each kernelspec's kernel.json. Nothing may be beside their folder."""
    kernels = prefix / "share" / "jupyter" / "kernels"
    assert [path.name for path in kernels.parent.glob("*")] in (["kernels"], [])
    return {path.name: json.loads((path / "kernel.json").read_text()) for path in kernels.glob("*")}


def execute(name: str, code: str, folder: Path) -> str:
    """By ``jupyter execute``: what the notebook's only cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, folder / "notebook.ipynb")
    subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "execute", f"--kernel_name={name}"),
            *("--output=executed", str(folder / "notebook.ipynb")),
        ],
        check=True,
        timeout=120,
    )
    cell = nbformat.read(folder / "executed.ipynb", as_version=4).cells[0]
    return "".join(output.text for output in cell.outputs)
