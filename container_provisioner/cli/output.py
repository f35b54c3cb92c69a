"""Results on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

# In a pipe nothing is cut off or wrapped, however long.
_PIPE_COLUMNS = 100_000
_UUID = 36  # characters

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Gives a subcommand ``--json``, as the argument `as_json`."""


def ready_streams() -> None:
    """Standard streams that every subcommand can use, however it was called.

    What was closed (``>&-``) leads nowhere, and is no terminal. A character that the locale's
    encoding does not have is written as an escape.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until this process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def drop_unwritten() -> None:
    """Standard output that could not be written. Python would try again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """As `jq` would print it, so that it can be read too."""
    click.echo(json.dumps(value, indent=2))


def print_error(text: str) -> None:
    """On standard error; a long one is folded between words on a terminal."""
    line = f"Error: {text}"
    if sys.stderr.isatty():
        Console(stderr=True, markup=False, highlight=False, emoji=False).print(line)
    else:
        click.echo(line, err=True)


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: str = "kernel"
) -> Table:
    """Columns as wide as what is in them. What is no text in a cell cannot play tricks.

    Where there is less room, cells are folded between words and words are cut, with an ellipsis;
    but ids, in the column `whole`, are not.
    """
    rows = [[_printable(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        is_whole = column == whole
        longest = max((len(row[number]) for row in rows), default=0)
        table.add_column(
            column.upper(),
            overflow="fold" if is_whole else "ellipsis",
            min_width=min(longest, _UUID) if is_whole else None,
            no_wrap=is_whole and longest <= _UUID,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _printable(cell: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cell)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """A page of titles and what they are; a title that comes again stands there once."""
    pairs = [(title, _printable(words)) for title, words in pairs]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for title, words in pairs:
        table.add_row(Text("" if title == before else title, style="bold"), Text(words))
        before = title
    _print(table)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: str = "kernel"
) -> None:
    """As `make_table`, for a terminal; in a pipe nothing is folded or cut."""
    _print(make_table(columns, rows, whole=whole))


def _print(table: Table) -> None:
    if sys.stdout.isatty():
        Console(markup=False, highlight=False, emoji=False).print(table)
        return
    console = Console(width=_PIPE_COLUMNS, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
