"""Options that become settings of a kernelspec's stanza."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Callable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem
from traitlets import TraitError

from ..swarm.settings import SwarmSettings
from ..trait_types import Fields

_TRAITS = SwarmSettings.class_traits(config=True)  # those of a container, and some more
_NAMES = sorted(_TRAITS)
_MAPPING = '{"NAME": "VALUE"}'


def setting(option: str, trait: str, **kwargs: Any) -> Callable[..., Any]:
    """An option that becomes a setting of the stanza; left out, the stanza does not name it."""

    def is_valid(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is not None:
            _check(trait, value)
        return value

    return click.option(option, trait, callback=is_valid, **kwargs)


def set_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a subcommand ``--set NAME=VALUE``, as the argument `further`: the settings."""

    def parse(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
        further: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals:
                raise click.BadParameter(f"{text!r} is not NAME=VALUE.")
            if name in further:
                raise click.BadParameter(f"{name} is given twice. A list is one value, by commas.")
            further[name] = _value(name, value)
        return further

    return click.option(
        "--set",
        "further",
        metavar="NAME=VALUE",
        multiple=True,
        callback=parse,
        shell_complete=_complete,
        help="Any other setting of the stanza, such as gpus=all, cpu_limit=2 or "
        "mounts=/data:/data. VALUE can be JSON, a list by commas. Can be given more than once.",
    )(function)


def _value(name: str, text: str) -> Any:
    """What the setting takes of: the text as JSON, and as a variable's value would be read.

    Raises `click.BadParameter`.
    """
    if name not in _NAMES:
        raise click.BadParameter(f"There is no setting {name!r}.{_nearest(name)}")
    if name == "image":
        raise click.BadParameter("The image is the argument IMAGE.")
    refusals = []
    for value in _readings(name, text):
        try:
            _check(name, value)
        except click.BadParameter as exc:
            refusals.append(exc)
        else:
            return value
    if isinstance(_TRAITS[name], Fields):  # no value of a variable is repeated
        raise click.BadParameter(f"{name} has to be a mapping, written as JSON: {_MAPPING}.")
    raise refusals[0]


def _readings(name: str, text: str) -> Iterator[Any]:
    with contextlib.suppress(ValueError):
        yield json.loads(text)
    try:
        yield _TRAITS[name].from_string(text)
    except (TraitError, ValueError):
        yield text


def _check(name: str, value: Any) -> None:
    try:
        SwarmSettings(**{name: value})
    except TraitError as exc:
        raise click.BadParameter(str(exc)) from exc


def _nearest(name: str) -> str:
    near = [known for known in _NAMES if name and known.startswith(name)]
    near = near or difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(_NAMES)}."


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [
        CompletionItem(f"{name}=", help=_first_sentence(_TRAITS[name].help))
        for name in _NAMES
        if name.startswith(incomplete) and name != "image"
    ]


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].replace("``", "")
