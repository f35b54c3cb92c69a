"""The documents that are executed, whole; and what the machinery notices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
import yaml

from . import documents
from .conftest import IMAGE
from .documents import Failed, Refused, Step, steps
from .places import CHECKOUT, Place, place_fixture  # noqa: F401 - a fixture
from .server_process import free_port


@dataclass(frozen=True, kw_only=True)
class Document:
    """Where it is read: `cwd` in the checkout, with variables that the document names."""

    path: str
    cwd: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    notebook: str = ""  # one of the reader's own, in `cwd`


def example(name: str, **variables: str) -> Document:
    """Read in its own folder."""
    folder = f"examples/{name}"
    return Document(path=f"{folder}/README.md", cwd=folder, variables=variables)


DOCUMENTS = [
    Document(path="README.md", notebook="notebook.ipynb"),
    Document(path="docs/tutorial.md"),
    Document(path="examples/quickstart/README.md"),
    example("existing-image", IMAGE=IMAGE),
    example("agent-sandbox"),
    example("papermill"),
    example("notebooks-in-ci"),
    example("notebook-tests", IMAGE=IMAGE),
    example("survive-a-restart"),
    example("warm-pool"),
    example("gpu", IMAGE=IMAGE),
]

# By the tests of the engines that they need, which are not started twice.
ELSEWHERE = {
    "compose": "test_compose.py",
    "remote-engine": "test_remote_engine.py",
    "swarm": "test_swarm.py",
}


@pytest.mark.docker
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.path)
def test_document(place: Place, document: Document):
    if document.notebook:
        cells = [nbformat.v4.new_code_cell("6 * 7")]
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells),
            place.checkout / document.cwd / document.notebook,
        )
    place.run(document.path, document.cwd, PORT=str(free_port()), **document.variables)


def test_every_example_is_run_and_listed():
    folders = [path for path in CHECKOUT.glob("examples/*") if path.is_dir()]
    examples = {path.name for path in folders if not path.name.startswith((".", "_"))}
    here = {Path(document.path).parent.name for document in DOCUMENTS}
    assert examples <= here | ELSEWHERE.keys()
    for name, module in ELSEWHERE.items():
        text = Path(__file__).with_name(module).read_text()
        assert name in text
        assert "README.md" in text
    index = (CHECKOUT / "examples" / "README.md").read_text()
    for name in examples:
        assert f"]({name}/README.md)" in index


@pytest.mark.parametrize("name", ["github-actions", "gitlab-ci"])
def test_workflow_files_are_what_their_services_take(name: str):
    """By the schemas that the services publish, which check-jsonschema brings."""
    schema = f"vendor.{name.replace('actions', 'workflows')}"
    file = CHECKOUT / "examples" / "notebooks-in-ci" / f"{name}.yml"
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_workflow_does_what_its_readme_says():
    """But for where the package comes from."""
    folder = CHECKOUT / "examples" / "notebooks-in-ci"
    workflow = yaml.safe_load((folder / "github-actions.yml").read_text())
    (job,) = workflow["jobs"].values()
    commands = "\n".join(step["run"] for step in job["steps"] if "run" in step)
    (said,) = (step.shell for step in steps((folder / "README.md").read_text()))
    assert commands.replace(' "$PROVISIONER"', "") == said.rstrip()


# -- the machinery -----------------------------------------------------------------------------

Run = Callable[[str], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a document of this text. The folder is the test's ``tmp_path``."""

    def run(text: str) -> None:
        (tmp_path / "text.md").write_text(text)
        documents.run(tmp_path / "text.md", tmp_path, os.environ)

    return run


def block(content: str, language: str = "sh", comment: str = "") -> str:
    return f"{comment}\n```{language}\n{content}\n```\n"


def test_blocks_share_one_shell_and_come_in_order(run: Run, tmp_path: Path):
    run(
        "# Title\n"
        + block("mkdir sub; cd sub\nexport NAME=value")
        + block('{"a": 1}', "json", "<!-- file: deep/$NAME.json -->")
        + block("cp deep/value.json copy.json", "bash")
        + block("not a command", "sh", "<!-- not run: it\nis none -->")
        + block("nor this", "text")
    )
    assert (tmp_path / "sub" / "copy.json").read_text() == '{"a": 1}\n'


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("true\nfalse\ntrue", 4),
        ("true\ntrue | false | true", 4),
        ("true\n\n(exit 3)", 5),
        ("false && true", 3),
        ("true\nno-such-command", 4),
    ],
)
def test_a_command_that_fails_is_named_by_its_line(run: Run, content: str, line: int):
    with pytest.raises(Failed) as raised:
        run(block(content))
    words = str(raised.value)
    assert f"text.md:{line}: " in words


def test_output_is_compared(run: Run):
    console = "$ echo one; echo \\\n> two >&2\none\ntw…\n$ echo unseen\n$ echo 3\n3"
    run(block(console, "console") + block("echo four") + block("f…r", "text", "<!-- output -->"))
    for wrong in (console.replace("tw…", "two too"), console + "\n4"):
        with pytest.raises(Failed, match=r"text\.md:\d+: said to print\n"):
            run(block(wrong, "console"))
    with pytest.raises(Failed, match=r"text\.md:3: said to print\nfive\n\nand prints\nfour\n"):
        run(block("echo four") + block("five", "text", "<!-- output -->"))


@pytest.mark.parametrize(
    "text",
    [
        block("a: b", "yaml"),
        block("echo", ""),
        "    echo indented\n",
        block("output only", "console"),
        block("echo", "sh", "<!-- not run: -->"),
        block("echo", "sh", "<!-- no run: misspelled -->"),
        block("nothing", "text", "<!-- output -->"),
    ],
)
def test_what_cannot_be_run_and_does_not_say_why_is_refused(run: Run, tmp_path: Path, text: str):
    with pytest.raises(Refused, match=r"line \d"):
        run(block("touch made") + block("echo", "text") + text)
    assert not (tmp_path / "made").exists()


def test_nothing_may_go_on_at_the_end(run: Run, monkeypatch: pytest.MonkeyPatch):
    run(block("sleep 300 &\nkill $!"))
    monkeypatch.setattr(documents, "GRACE", 0.1)
    with pytest.raises(Failed, match="still ran"):
        run(block("sleep 300 &"))


def test_one_that_hangs(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(documents, "SECONDS", 0.5)
    with pytest.raises(Failed, match=r"text\.md:3: did not end, and printed:\nbefore"):
        run(block("echo before; sleep 300"))


def test_lines():
    text = "a\n" + block("one") + block("$ two\n2\n$ three", "console")
    assert list(steps(text)) == [
        Step(line=4, shell="one\n"),
        Step(line=8, shell="two\n", output="2\n"),
        Step(line=10, shell="three\n"),
    ]
