"""docs/tested-with.md says what is so: its versions are in use, and the tests that it names exist.

A minor version that is newer than the page's is no failure: else the page, which was true when it
was written, would fail everybody's tests with each release of a dependency.
"""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "tested-with.md").read_text()

VERSIONS = re.findall(r"^\| (\w+)(?: \(.*\))? \| (\d+)\.(\d+) \|$", PAGE, re.MULTILINE)
NAMED = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "test_" in line]


def test_the_page_is_read() -> None:
    """Else the rest here would compare nothing."""
    assert len(VERSIONS) == PAGE.partition("## jupyter_client")[0].count("\n| ") - 1
    assert len(ROWS) == PAGE.count("\n| ") - PAGE.count("\n| what |") - len(VERSIONS) - 1
    assert all(re.search(r"`test_\w+\.py::test_\w+`", row) for row in ROWS)


@pytest.mark.parametrize(("package", "major", "minor"), VERSIONS)
def test_a_version_is_in_use(package: str, major: str, minor: str) -> None:
    installed = [int(part) for part in version(package).split(".")[:2]]
    assert installed[0] == int(major), "a new major version: run the tests and correct the page"
    assert installed[1] >= int(minor), "the page claims what was not tried here"


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_a_named_test_exists(file: str) -> None:
    """Defined there, or imported to be run there too."""
    there = set()
    for node in ast.parse((HERE / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            there.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            there |= {alias.name for alias in node.names}
    assert {test for in_file, test in NAMED if in_file == file} <= there
