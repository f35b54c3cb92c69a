"""The kernelspecs that could be installed: shown, and chosen from."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ..kernelspecs import Kernelspec
from .output import print_json, print_table

ALL = "all"


def choose(
    found: Sequence[Kernelspec], names: Sequence[str], *, image: str, may_ask: bool
) -> list[Kernelspec]:
    """Those with these names (`ALL` is all), else the only one, else what the user answers.

    Raises `click.UsageError` where nobody can be asked.
    """
    known = {spec.name: spec for spec in found}
    if ALL in names:
        return list(found)
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(
            f"Image {image!r} has no kernelspec {unknown[0]!r}, but: {', '.join(known)}.",
            param_hint="'--kernel'",
        )
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    if len(found) == 1:
        return list(found)
    if not (may_ask and sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            f"Image {image!r} has {len(found)} kernelspecs: {', '.join(known)}. Say which with "
            f"--kernel NAME, once for each, or take all with --kernel {ALL}."
        )
    show(found, as_json=False)
    answer = click.prompt("Which one", type=click.Choice([*known, ALL]))
    return list(found) if answer == ALL else [known[answer]]


def show(found: Sequence[Kernelspec], *, as_json: bool) -> None:
    """What ``--list`` prints."""
    if as_json:
        print_json(
            [
                {
                    "name": spec.name,
                    "display_name": spec.display_name,
                    "language": spec.language,
                    "argv": spec.fields["argv"],
                    "folder": spec.folder or None,
                }
                for spec in found
            ]
        )
        return
    print_table(
        ("kernel", "display name", "language", "found in"),
        [(spec.name, spec.display_name, spec.language, spec.folder or "-") for spec in found],
    )
