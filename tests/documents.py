"""Markdown documents as programs: what a reader would type, in order, in one shell.

What a code block is stands in its language, or in an HTML comment straight before it:

``sh``, ``bash``            commands; each has to succeed, but those in the background (``&``)
``console``                 lines after ``$ `` are commands, the others are what they print
``text``, ``mermaid``       for people only
``<!-- file: PATH -->``     the block is that file's content, from there on
``<!-- output -->``         the block is what the block before it printed
``<!-- not run: WHY -->``   nothing is done with it, for that reason

``…`` in output stands for anything, and white space is all the same. A block that is
none of these is refused, as are a comment that is none, and a reason that is empty.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

from .server_process import eventually

FOR_PEOPLE = {"text", "mermaid"}
SECONDS = 150.0  # for a whole document; less than pytest's own timeout
GRACE = 30.0  # seconds, for what it has ended and not waited for

_COMMENT = re.compile(
    r"<!--\s*(?:(?P<output>output)|file: (?P<file>\S+)|not run: (?P<reason>.+?))\s*-->\s*", re.S
)


class Refused(Exception):
    """A block that cannot be run, and does not say why."""


class Failed(AssertionError):
    """What a reader would have seen go wrong."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A piece of shell, the line of the document where it begins, and what it has to print."""

    line: int
    shell: str
    output: str | None = None


def steps(markdown: str) -> Iterator[Step]:
    """What there is to do, in order. Raises `Refused`."""
    last: Step | None = None
    before = ""
    for token in MarkdownIt().parse(markdown):
        if token.type == "html_block":
            before = token.content
            continue
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            line = token.map[0] + (2 if token.type == "fence" else 1)
            comment = _COMMENT.fullmatch(before)
            if before.startswith("<!--") and comment is None:
                raise Refused(f"line {line}: what is {before.strip()!r} to mean?")
            if comment and comment["output"]:
                if last is None:
                    raise Refused(f"line {line}: it is no block's output")
                last = replace(last, output=token.content)
            elif comment is None or comment["file"]:
                if last is not None:
                    yield last
                *done, last = _block(token.info, token.content, line, comment and comment["file"])
                yield from (step for step in done if step is not None)
        before = ""
    if last is not None:
        yield last


def _block(language: str, content: str, line: int, file: str | None) -> list[Step | None]:
    """Its steps; None for a block that has none."""
    if file:
        # Not quoted: the shell knows where ~ is.
        end = "end of the file of a document"
        shell = f"mkdir -p $(dirname {file})\ncat >{file} <<'{end}'\n{content}{end}\n"
        return [Step(line=line, shell=shell)]
    if language in FOR_PEOPLE:
        return [None]
    if language in ("sh", "bash"):
        return [Step(line=line, shell=content)]
    if language == "console" and content.startswith("$ "):
        return list(_console(content, line))
    raise Refused(
        f"line {line}: a block in {language or 'no language'!r} is neither run nor a file. "
        "Say what it is, or why it is not run: <!-- not run: … -->"
    )


def _console(content: str, line: int) -> Iterator[Step]:
    """Lines after ``$ `` and, in a command that goes on, ``> ``; the others are output."""
    commands = re.split(r"^\$ ", content, flags=re.M)[1:]
    for each in commands:
        command, *rest = each.splitlines(keepends=True)
        while rest and rest[0].startswith("> "):
            command += rest.pop(0)[2:]
        yield Step(line=line, shell=command, output="".join(rest) or None)
        line += each.count("\n")


def run(document: Path, cwd: Path, env: Mapping[str, str]) -> None:
    """Do what it says, in that folder. Raises `Refused` before anything is done, and `Failed`.

    Nothing that it has started may go on when it has ended.
    """
    todo = list(steps(document.read_text()))
    with tempfile.TemporaryDirectory() as scratch:
        script = ["set -eEo pipefail"]
        script.append(f"trap 'echo \"{document.name}:$LINENO: $BASH_COMMAND: failed\" >&2' ERR")
        for number, step in enumerate(todo):
            path = Path(scratch, f"{number:03}")
            # So that the shell's own line numbers are the document's.
            path.write_text("\n" * (step.line - 1) + step.shell)
            script.append(f". {shlex.quote(str(path))} >{shlex.quote(f'{path}.out')} 2>&1")
            script.append("[ $? = 0 ]")
        shell = subprocess.Popen(
            ["bash", "-c", "\n".join(script)],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code: int | None = shell.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        left = not _has_ended(shell.pid, wait=code == 0)
        printed = [path.read_text(errors="replace") for path in sorted(Path(scratch).glob("*.out"))]
    if code != 0:
        shown = "".join(printed[-1:]) or "nothing"
        how = "did not end" if code is None else f"ended with {code}"
        raise Failed(f"{document.name}:{todo[len(printed) - 1].line}: {how}, and printed:\n{shown}")
    for step, got in zip(todo, printed, strict=True):
        if step.output is not None and not _is_like(step.output, got):
            raise Failed(
                f"{document.name}:{step.line}: said to print\n{step.output}\nand prints\n{got}"
            )
    if left:
        raise Failed(f"{document.name}: a process that it started still ran at its end")


def _is_like(wanted: str, got: str) -> bool:
    words, pieces = " ".join(got.split()), " ".join(wanted.split()).split("…")
    pattern = ".*".join(re.escape(piece.strip()) for piece in pieces)
    return re.fullmatch(pattern, words) is not None


def _has_ended(group: int, *, wait: bool) -> bool:
    """Whether the shell's process group is empty, soon. What is left of it is killed."""

    def is_empty() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    try:
        eventually(is_empty, "the processes of a document to end", timeout=GRACE if wait else 0)
    except AssertionError:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        return False
    return True
