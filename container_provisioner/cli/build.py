"""``build``: an image with a kernel, of those that come with us or from a user's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..building import (
    HostNetwork,
    Recipe,
    base_advice,
    build_request,
    built_before,
    check_image_name,
    ensure_base,
    folder_recipe,
    remove_nameless,
    shipped_images,
    shipped_recipe,
)
from ..config import ContainerSettings
from ..errors import BuildFailed
from ..exits import format_size
from .asking import run, the_engine
from .completion import complete_image
from .install import facts, install_image, tell
from .output import json_option, print_json
from .progress import building, notice, present


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    names = [CompletionItem(name) for name in shipped_images() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="dir")]


@click.command()
@click.argument("what", metavar="[DIR|NAME]", default=".", shell_complete=_complete)
@click.option(
    "-t",
    "--tag",
    metavar="IMAGE",
    help="The image's name. Default: container-provisioner/NAME, or DIR's name and '-kernel'.",
)
@click.option(
    "--base",
    metavar="IMAGE",
    default="",
    shell_complete=complete_image,
    help="What it is built upon. Default: what 'ARG BASE=' of its Dockerfile says.",
)
@click.option(
    "--build-arg",
    "arguments",
    metavar="NAME[=VALUE]",
    multiple=True,
    help="For an ARG of the Dockerfile, such as PIP_INDEX_URL; without VALUE, the variable's.",
)
@click.option(
    "--network",
    metavar="NETWORK",
    default="",
    help="The network of the build's commands, such as 'host'. Default: the engine's; 'host' when "
    "a proxy listens on this machine only.",
)
@click.option("--no-cache", is_flag=True, help="Take no step from an earlier build.")
@click.option("--install", "installs", is_flag=True, help="Then install it, as 'install' does.")
@json_option
def build(
    what: str,
    tag: str | None,
    base: str,
    arguments: tuple[str, ...],
    network: str,
    no_cache: bool,
    installs: bool,
    as_json: bool,
) -> None:
    """Build an image with a kernel in it.

    NAME is an image that comes with this package: bash, python, r or scipy. DIR is a folder with a
    Dockerfile, environment.yml, requirements.txt or pyproject.toml, the first that is there; with
    no Dockerfile, the image has Python, ipykernel and those packages. Default: this folder.
    './python' is a folder, 'python' the image.

    The base is taken from the engine, else pulled, else made of Debian's packages where that is
    possible. When a registry serves it, the output ends with the --base that names exactly this
    one. The proxies and certificate authorities that this shell's variables name are used to
    download, and are not in the image.
    """
    recipe = _recipe(what)
    pairs = _pairs(arguments)
    if base and not recipe.base:
        raise click.BadParameter(
            f"{recipe.source} has no line 'ARG BASE=…', so it would change nothing.",
            param_hint="--base",
        )
    if tag:
        check_image_name(tag)
        recipe = replace(recipe, image=tag)
    notice(f"Building {recipe.image} from {recipe.source}")
    result = run(_build(recipe, base, pairs, network, no_cache))
    if not as_json:
        click.echo(f"Built {recipe.image} ({result['id'][7:19]}, {format_size(result['size'])})")
        if "@" in result["base"]:
            notice(f"'--base {result['base']}' builds it upon the same base again.")
    if installs:
        done = install_image(recipe.image, may_ask=not as_json)
        result["installed"] = [facts(each) for each in done]
    if as_json:
        print_json(result)
    elif installs:
        for each in done:
            tell(each, asked={})
    else:
        notice(f"'jupyter container-kernel install {recipe.image}' makes it a kernel to choose.")


def _recipe(what: str) -> Recipe:
    names = shipped_images()
    if what in names:
        return shipped_recipe(what)
    if not Path(what).is_dir():
        raise click.BadParameter(
            f"{what!r} is neither a folder nor one of {', '.join(names)}.", param_hint="DIR|NAME"
        )
    return folder_recipe(Path(what))


def _pairs(arguments: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name or (not equals and name not in os.environ):
            raise click.BadParameter(
                f"{argument!r} is neither NAME=VALUE nor a variable of the environment.",
                param_hint="--build-arg",
            )
        pairs[name] = value if equals else os.environ[name]
    return pairs


async def _build(
    recipe: Recipe,
    base: str,
    arguments: dict[str, str],
    network: str,
    no_cache: bool,
) -> dict[str, Any]:
    engine = await the_engine()
    deadline = ContainerSettings().pull_timeout
    host = HostNetwork.of()

    async def pull(wanted: str) -> None:
        await present(engine, wanted, deadline=deadline)

    if recipe.base:
        base = base or arguments.pop("BASE", "")
        base = await ensure_base(engine, recipe, base, pull=pull, notice=notice)
    before = await built_before(engine, recipe.image)
    request = build_request(
        recipe,
        base=base,
        arguments=arguments,
        host=host,
        network=network,
        use_cache=not no_cache,
    )
    try:
        with building(recipe.image) as progress:
            found = await engine.build(request, progress)
    except BuildFailed as exc:
        advice = base_advice(exc) or host.advice(exc.output, recipe.dockerfile)
        raise BuildFailed(recipe.image, f"{exc.explanation}{advice}", exc.output) from exc
    if before:
        await remove_nameless(engine, before)
    return {
        "image": recipe.image,
        "id": found,
        "size": (await engine.inspect_image(found)).size,
        "base": base,
        "source": recipe.source,
    }
