"""``logs``: what a kernel's processes wrote, other than to the notebook."""

from __future__ import annotations

import codecs
import json
import re
import sys
from contextlib import aclosing

import click

from ..engine.base import Output
from ..exits import ESCAPE_SEQUENCES
from .asking import run, the_engine
from .kernels import complete_kernel, find_kernel, list_kernels
from .output import json_option

# Colours and the like may pass; what moves the cursor, names windows or asks the terminal may not.
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")


@click.command()
@click.argument("kernel", shell_complete=complete_kernel)
@click.option("-f", "--follow", is_flag=True, help="Go on until the kernel ends, or Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    "--tail",
    "lines",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only the last N lines. Default: all that the engine has kept.",
)
@json_option
def logs(kernel: str, follow: bool, lines: int | None, as_json: bool) -> None:
    """Print what KERNEL's processes wrote to their standard output and standard error.

    That is where libraries and child processes complain; what a cell prints goes to its notebook.
    Each stream goes to the same stream here. On a terminal, colours are shown and other control
    sequences are not; in a pipe the bytes are as they were written. With --json, each piece is one
    line with its "stream" and "text".

    An ended kernel has a log as long as it has a container ('ps --all').
    """
    run(_copy(kernel, lines, _Json() if as_json else _Streams(), follow=follow))


async def _copy(name: str, lines: int | None, to: _Streams, *, follow: bool) -> None:
    engine = await the_engine()
    kernel = find_kernel(await list_kernels(engine), name)
    output = engine.output(kernel.container.id, lines=lines, follow=follow)
    async with aclosing(output):
        async for piece in output:
            to.write(piece)


class _Streams:
    """Where pieces go: as text to a terminal, as they are to anything else."""

    def __init__(self) -> None:
        kind = codecs.getincrementaldecoder("utf-8")  # a character can be in two pieces
        self._decoders = {False: kind("replace"), True: kind("replace")}

    def text(self, piece: Output) -> str:
        return self._decoders[piece.is_error].decode(piece.data)

    def write(self, piece: Output) -> None:
        stream = sys.stderr if piece.is_error else sys.stdout
        content = printable(self.text(piece)) if stream.isatty() else piece.data
        click.echo(content, nl=False, err=piece.is_error)


class _Json(_Streams):
    def write(self, piece: Output) -> None:
        stream = "stderr" if piece.is_error else "stdout"
        click.echo(json.dumps({"stream": stream, "text": self.text(piece)}))


def printable(text: str) -> str:
    """Without what could play tricks in a terminal: it comes from inside the sandbox."""
    parts = _COLOUR.split(text)  # text and colours in turn
    for index in range(0, len(parts), 2):
        plain = ESCAPE_SEQUENCES.sub("", parts[index])
        parts[index] = "".join(c for c in plain if c.isprintable() or c in "\n\t\r")
    return "".join(parts)
