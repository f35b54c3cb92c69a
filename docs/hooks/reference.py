"""A hook of MkDocs: what the code says of itself, where a page has ``<!-- generated: WHAT -->``.

WHAT is one of the functions below, with its arguments. So what stands there cannot be out of date.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
from traitlets import Enum, TraitType

import container_provisioner
from container_provisioner import errors
from container_provisioner.cli.command import command
from container_provisioner.trait_types import ENVIRONMENT_PREFIX, FromEnvironment

_MARKER = re.compile(r"<!-- generated: (?P<what>\w+) ?(?P<arguments>.*?) -->")
PACKAGE = Path(container_provisioner.__file__).parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    return _MARKER.sub(_generated, markdown)


def _generated(match: re.Match[str]) -> str:
    return "\n\n".join(GENERATORS[match["what"]](*match["arguments"].split()))


def settings(module: str, name: str) -> Iterator[str]:
    """Every trait that a class adds to those of its parents, in the order of the code."""
    owner = getattr(importlib.import_module(f"container_provisioner.{module}"), name)
    traits = owner.class_own_traits(config=True)
    for setting, trait in ((each, traits[each]) for each in vars(owner) if each in traits):
        yield f"### {setting}"
        default = trait.default()
        facts = [_kind(trait), f"default `{default!r}`" if default not in ("", [], {}) else ""]
        if isinstance(trait, FromEnvironment):
            facts.append(f"`{ENVIRONMENT_PREFIX}{setting.upper()}`")
        yield " · ".join(filter(None, facts))
        yield _prose(trait.help)


def _kind(trait: TraitType[Any, Any]) -> str:
    if isinstance(trait, Enum):
        return ", ".join(f"`{value}`" if value else "empty" for value in trait.values or ())
    kinds = {"a unicode string": "text", "a boolean": "true or false", "a dict": "a mapping"}
    return kinds.get(trait.info(), trait.info())


def subcommands() -> Iterator[str]:
    """The whole help of each."""
    top = click.Context(command, info_name="jupyter container-kernel", terminal_width=100)
    yield f"```text\n{command.get_help(top)}\n```"
    for name in sorted(command.commands):
        each = command.commands[name]
        context = click.Context(each, info_name=name, parent=top, terminal_width=100)
        yield f"## {name}"
        yield f"```text\n{each.get_help(context)}\n```"


def error(name: str) -> Iterator[str]:
    """What an error's class says: whose kind it is, its exit code, its text where it has one."""
    kind = getattr(errors, name)
    parent = kind.__bases__[0]
    of = "" if parent is RuntimeError else f" · a kind of [{parent.__name__}](#{anchor(parent)})"
    yield f"Exit code {kind.exit_code}{of}"
    yield _prose(inspect.getdoc(kind) or "")
    if (text := says(kind)) is not None:
        yield f"```text\n{text}\n```"


def anchor(kind: type) -> str:
    """Of the heading that is its name."""
    return kind.__name__.lower()


def says(kind: type[errors.ContainerProvisionerError]) -> str | None:
    """Its message with names for what varies; None for one whose message is written elsewhere."""
    if "__init__" not in vars(kind):
        return None
    examples: dict[str, Any] = {"tried": [("URL", "WHY")], "output": ["LINE"]}
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    return str(kind(*(examples.get(name, name.upper()) for name in names)))


def python(module: str) -> Iterator[str]:
    """What a module exports, and the methods that its classes describe."""
    exports = importlib.import_module(module)
    for name in exports.__all__:
        found = getattr(exports, name)
        yield f"### {name}"
        if kinds := get_args(found):
            yield " or ".join(f"`{kind.__name__}`" for kind in kinds)
            continue
        yield _signature(name, found)
        yield _prose(inspect.getdoc(found) or "")
        for method, member in vars(found).items() if inspect.isclass(found) else ():
            described = isinstance(member, property) or inspect.isfunction(member)
            if described and not method.startswith("_") and (text := inspect.getdoc(member)):
                yield f"#### {name}.{method}"
                yield "" if isinstance(member, property) else _signature(method, member)
                yield _prose(text)


def _signature(name: str, found: Any) -> str:
    keyword = "class" if inspect.isclass(found) else "def"
    keyword = "async def" if inspect.iscoroutinefunction(found) else keyword
    return f"```python\n{keyword} {name}{inspect.signature(found)}\n```"


def file(path: str) -> Iterator[str]:
    """A file of the package."""
    yield f"```{Path(path).suffix[1:]}\n{(PACKAGE / path).read_text()}```"


def _prose(text: str) -> str:
    return inspect.cleandoc(text).replace("``", "`")


GENERATORS = {each.__name__: each for each in (settings, subcommands, error, python, file)}
