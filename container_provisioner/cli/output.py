"""Results on standard output: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

# In a pipe nothing is cut off or wrapped, however long.
_PIPE_COLUMNS = 100_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Gives a subcommand ``--json``, as the argument `as_json`."""


def print_json(value: Any) -> None:
    """As `jq` would print it, so that it can be read too."""
    click.echo(json.dumps(value, indent=2))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns as wide as what is in them. What is no text in a cell cannot play tricks."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        cells = (
            "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cell)
            for cell in row
        )
        table.add_row(*map(Text, cells))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """As `make_table`; on a terminal, cells are folded to fit."""
    table = make_table(columns, rows)
    if sys.stdout.isatty():
        Console(markup=False, highlight=False, emoji=False).print(table)
        return
    console = Console(width=_PIPE_COLUMNS, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
