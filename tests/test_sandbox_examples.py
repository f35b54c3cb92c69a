"""examples/agent-sandbox and examples/notebook-tests, as their READMEs say; docs/sandbox.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("runtime_dir")]

CHECKOUT = Path(__file__).parent.parent
SCRIPT = CHECKOUT / "examples" / "agent-sandbox" / "run_untrusted.py"


def run(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_agent_sandbox(tmp_path: Path):
    printed = run(SCRIPT, cwd=tmp_path)
    assert "  > '0 squared is 0\\n1 squared is 1\\n" in printed
    assert "images: 1\ntotal: b'285\\n'\n" in printed
    assert (tmp_path / "image-0.png").read_bytes().startswith(b"\x89PNG")


def test_agent_sandbox_with_the_code_of_its_readme(tmp_path: Path):
    readme = SCRIPT.with_name("README.md").read_text()
    tried = re.findall(r"^echo '(.*)' > code.py\npython \S+ (.*?) +# (.*)$", readme, re.M)
    assert len(tried) == 2
    for code, arguments, promised in tried:
        (tmp_path / "code.py").write_text(code)
        printed = run(SCRIPT, *arguments.split(), cwd=tmp_path)
        assert printed.startswith(promised.removesuffix("…"))


def test_notebook_tests(folder: Path):
    example = CHECKOUT / "examples" / "notebook-tests"
    project = folder / "notebook-tests"
    shutil.copytree(example, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    scope = ("--container-kernel-scope", "session")
    assert "2 passed" in run("-m", "pytest", "-p", "no:cacheprovider", *scope, cwd=project)


def test_the_page_begins_with_what_works(tmp_path: Path):
    page = (CHECKOUT / "docs" / "sandbox.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "page.py").write_text(code)
    assert run("page.py", cwd=tmp_path) == "1,2\n3,4\n\n 42\n"
