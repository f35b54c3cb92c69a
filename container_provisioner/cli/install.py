"""``install``: kernelspecs whose kernels run in containers, from an image or of this host."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from traitlets import TraitError

from ..config import ContainerSettings
from ..errors import NoKernelInImage
from ..kernelspecs import (
    Draft,
    Installed,
    Kernelspec,
    draft,
    for_every_jupyter,
    host_kernelspec,
    host_kernelspecs,
    image_kernelspecs,
    kernels_folder,
    printable,
)
from ..kernelspecs import install as install_drafts
from ..policy import Settings
from .asking import run, the_engine
from .completion import complete_kernelspec
from .output import json_option, print_json, print_table
from .progress import notice, present

_log = logging.getLogger(__name__)


def _is_valid(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    try:
        ContainerSettings(**({} if value is None else {str(param.name): value}))
    except TraitError as exc:
        raise click.BadParameter(str(exc)) from exc
    return value


def setting(option: str, trait: str, **kwargs: Any) -> Callable[..., Any]:
    """An option that becomes a setting of the stanza; left out, the stanza does not name it."""
    return click.option(option, trait, callback=_is_valid, **kwargs)


@click.command()
@click.argument("image", required=False)
@click.option(
    "--kernel",
    "names",
    metavar="NAME",
    multiple=True,
    help="A kernelspec of the image's, where it has several. Can be given more than once.",
)
@click.option("--all", "every", is_flag=True, help="All kernelspecs of the image.")
@click.option("--list", "only_list", is_flag=True, help="Show what could be installed, and end.")
@click.option(
    "--from",
    "origin",
    metavar="NAME",
    shell_complete=complete_kernelspec,
    help="Without IMAGE: the kernelspec of this host to run in containers. Default: python3, or "
    "the first.",
)
@click.option("--name", help="What to call it. Default: the kernel, and where it runs.")
@click.option("--display-name", metavar="TEXT", help="What front ends show.")
@click.option("--user", is_flag=True, help="Install for you, in every environment.")
@click.option("--sys-prefix", is_flag=True, help="Install into this Python's environment.")
@click.option("--prefix", metavar="FOLDER", help="Install below FOLDER/share/jupyter.")
@setting("--profile", "profile", type=click.Choice(["sandbox", "dev"]), help="Default: sandbox.")
@setting("--memory", "memory_limit", metavar="SIZE", help="Such as 512m or 4g. Default: 2g.")
@setting("--network", "network", metavar="NAME", help="Default: by the profile; sandbox has none.")
@setting(
    "--workspace",
    "workspace",
    type=click.Choice(["none", "ro", "rw"]),
    help="The notebook's folder: not mounted, read-only, read-write. Default: by the profile.",
)
@setting(
    "--transport",
    "transport",
    type=click.Choice(["ipc", "tcp", "network"]),
    help="Default: ipc, or tcp when the check finds a kernel that does not speak it.",
)
@setting(
    "--warm",
    "warm_pool_size",
    type=click.IntRange(min=0),
    metavar="N",
    help="Kernels that a Jupyter Server keeps waiting, for starts in a tenth of the time.",
)
@click.option("--keep", is_flag=True, help="Kernels go on when their server ends.")
@click.option("--replace", is_flag=True, help="Overwrite another kernelspec of that name.")
@click.option("--no-check", is_flag=True, help="Install without starting a kernel first.")
@json_option
def install(
    image: str | None,
    names: tuple[str, ...],
    every: bool,
    only_list: bool,
    origin: str | None,
    name: str | None,
    display_name: str | None,
    user: bool,
    sys_prefix: bool,
    prefix: str | None,
    keep: bool,
    replace: bool,
    no_check: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Install a kernelspec whose kernels run in containers.

    With IMAGE its own kernels, which are looked for in the places that Jupyter knows; nothing in
    the image is changed or needed but the kernel. Without IMAGE a kernel of this host, which sees
    this host's packages and nothing of your home.

    \b
    jupyter container-kernel install
    jupyter container-kernel install quay.io/jupyter/scipy-notebook --memory 4g

    A kernel is started and asked who it is before anything is installed. To install the same again
    changes nothing.
    """
    if image and origin:
        raise click.UsageError("--from names a kernelspec of this host, and IMAGE is not one.")
    if not image and (names or every):
        raise click.UsageError("--kernel and --all need an IMAGE. For this host, use --from.")
    if user + sys_prefix + bool(prefix) > 1:
        raise click.UsageError("--user, --sys-prefix and --prefix exclude each other.")
    config = {option: value for option, value in settings.items() if value is not None}
    config |= {"image": image} if image else {}
    config |= {"on_server_exit": "keep"} if keep else {}
    settled = ContainerSettings(**config).settings()  # refuses what contradicts each other
    found = run(_in_image(image, settled)) if image else _on_host(origin, only_list=only_list)
    if only_list:
        _show(found, as_json=as_json)
        return
    chosen = _choose(found, names, every=every, may_ask=not as_json)
    if len(chosen) > 1 and (name or display_name):
        raise click.UsageError("--name and --display-name are for one kernel; several are chosen.")
    kernels = kernels_folder(user=user, prefix=sys.prefix if sys_prefix else prefix or "")
    if not image and kernels != kernels_folder(prefix=sys.prefix):
        chosen = [for_every_jupyter(spec) for spec in chosen]
    drafts = [
        draft(spec, config=config, name=name or "", display_name=display_name or "")
        for spec in chosen
    ]
    done = run(_install(drafts, kernels, replace=replace, checks=not no_check))
    for each in done:
        _warn_of_others(each)
    if as_json:
        print_json([_facts(each) for each in done])
        return
    for each in done:
        _tell(each, transport=settings["transport"])


async def _in_image(image: str, settings: Settings) -> list[Kernelspec]:
    engine = await the_engine()
    info = await present(engine, image, policy=settings.pull_policy, deadline=settings.pull_timeout)
    found = await image_kernelspecs(engine, info, _log)
    if not found:
        raise NoKernelInImage(image)
    return found


async def _install(
    drafts: list[Draft], kernels: Path, *, replace: bool, checks: bool
) -> list[Installed]:
    if checks:
        await the_engine()  # that there is none is not the kernel's fault
    try:
        return await install_drafts(drafts, kernels, replace=replace, checks=checks)
    except asyncio.CancelledError:
        notice("Interrupted: nothing was installed.")
        raise


def _on_host(origin: str | None, *, only_list: bool) -> list[Kernelspec]:
    # It warns of a host without a kernel; the error says what to do about that.
    manager = KernelSpecManager(log=logging.Logger("silent", level=logging.CRITICAL))
    if only_list and not origin:
        return host_kernelspecs(manager)
    return [host_kernelspec(manager, origin or "")]


def _choose(
    found: list[Kernelspec], names: Sequence[str], *, every: bool, may_ask: bool
) -> list[Kernelspec]:
    known = {spec.name: spec for spec in found}
    if unknown := [name for name in names if name not in known]:
        raise click.BadParameter(
            f"The image has no kernelspec {unknown[0]!r}, but: {', '.join(known)}.",
            param_hint="'--kernel'",
        )
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    if every or len(found) == 1:
        return found
    if not (may_ask and sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            f"The image has several kernelspecs: {', '.join(known)}. Choose with --kernel, or take "
            "--all."
        )
    _show(found, as_json=False)
    answer = click.prompt("Which", type=click.Choice([*known, "all"]), show_choices=False)
    return found if answer == "all" else [known[answer]]


def _show(found: list[Kernelspec], *, as_json: bool) -> None:
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


def _facts(done: Installed) -> dict[str, Any]:
    answer = done.answer
    return {
        "name": done.draft.name,
        "display_name": done.draft.display_name,
        "folder": str(done.folder),
        "changed": done.is_new,
        "config": done.draft.config,
        "answer": answer
        and {
            "language": answer.language,
            "version": answer.version,
            "seconds": round(answer.seconds, 3),
        },
    }


def _tell(done: Installed, *, transport: str | None) -> None:
    answer, name = done.answer, done.draft.name
    if answer is not None:
        who = " ".join(filter(None, (answer.language, answer.version))) or "The kernel"
        notice(f"{printable(who)} answered from a container in {answer.seconds:.1f} s.")
        if transport is None and "transport" in done.draft.config:
            notice("Its messages travel over tcp: it does not speak ipc.")
    if not done.is_new:
        click.echo(f"Kernelspec {name} is in {done.folder} already. Nothing was changed.")
        return
    click.echo(f"Installed kernelspec {name} in {done.folder}")


def _warn_of_others(done: Installed) -> None:
    """Jupyter may find another kernelspec of that name first, or not look there at all."""
    name = done.draft.name
    try:
        found = Path(KernelSpecManager().get_kernel_spec(name).resource_dir)
    except NoSuchKernel:
        _log.warning(
            "Jupyter does not look in %s. Set JUPYTER_PATH=%s where it runs.",
            done.folder.parent,
            done.folder.parent.parent,
        )
        return
    if found.resolve() != done.folder.resolve():
        _log.warning("Jupyter takes the kernelspec %s in %s, not this one.", name, found)
