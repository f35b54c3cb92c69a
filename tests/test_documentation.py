"""The site builds without a warning, has a word on everything that the code has, and says of errors
what the code says."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import container_provisioner
from container_provisioner import errors, sandbox
from container_provisioner.cli.command import command
from container_provisioner.config import ContainerSettings
from container_provisioner.server import ContainerKernels
from container_provisioner.swarm.settings import SwarmSettings

CHECKOUT = Path(__file__).parent.parent
ERRORS = (CHECKOUT / "docs" / "reference" / "errors.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it: a warning is an error."""
    target = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    done = subprocess.run(build, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


class Page(HTMLParser):
    """Ids of a page, and what a browser would load for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        self.loaded.add(given.get("src", ""))
        if tag == "link" and given.get("rel") != "canonical":
            self.loaded.add(given.get("href", ""))


def test_every_setting_and_every_subcommand_is_in_the_reference(site: Path) -> None:
    described = Page(site / "reference" / "settings" / "index.html").ids
    for owner in (ContainerSettings, SwarmSettings, ContainerKernels):
        assert set(owner.class_own_traits(config=True)) <= described
    assert set(command.commands) <= Page(site / "reference" / "command-line" / "index.html").ids
    python = Page(site / "reference" / "python" / "index.html").ids
    assert {name.lower() for name in (*container_provisioner.__all__, *sandbox.__all__)} <= python


def test_pages_name_nothing_that_is_loaded_from_elsewhere(site: Path) -> None:
    """The theme's script loads mermaid, where there is a diagram."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    loaded = set().union(*(Page(path).loaded for path in pages))
    assert not {address for address in loaded if re.match(r"(https?:)?//", address)}


def test_every_error_has_a_section_of_its_own() -> None:
    classes = [
        name
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, errors.ContainerProvisionerError)
    ]
    assert re.findall(r"^## (\w+)$\n\n<!-- generated: error (\w+) -->$", ERRORS, re.M) == [
        (name, name) for name in classes
    ]


def texts() -> Iterator[str]:
    """Every text in the package; … where something is filled in."""
    for path in Path(container_provisioner.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_what_errors_are_said_to_say_is_in_the_code() -> None:
    said = re.findall(r"^\| (?!says )(.+?) \| .*\|.*\|$", ERRORS.partition("## Cont")[2], re.M)
    assert len(said) > 30
    code = "\n".join(texts())

    def pattern(words: str) -> str:
        return r"[^\n]*?…[^\n]*?".join(map(re.escape, re.split(r"\s*…\s*", words)))

    assert not [words for words in said if not re.search(pattern(words), code)]
