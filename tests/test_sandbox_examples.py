"""What examples/agent-sandbox leaves beside what it prints; the first lines of docs/sandbox.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .places import CHECKOUT

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("runtime_dir")]


def run(script: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, script], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_agent_sandbox_has_its_plot(tmp_path: Path):
    assert "images: 1" in run(
        CHECKOUT / "examples" / "agent-sandbox" / "run_untrusted.py", tmp_path
    )
    assert (tmp_path / "image-0.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_begins_with_what_works(tmp_path: Path):
    page = (CHECKOUT / "docs" / "sandbox.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "page.py").write_text(code)
    assert run(tmp_path / "page.py", tmp_path) == "1,2\n3,4\n\n 42\n"
