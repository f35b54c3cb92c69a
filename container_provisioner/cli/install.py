"""``install``: kernelspecs whose kernels run in containers, from an image or of this host."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from ..config import ContainerSettings
from ..errors import NoKernelInImage
from ..kernelspecs import (
    PROVISIONER,
    SETTINGS,
    SWARM_PROVISIONER,
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
from .asking import given_engine, run, swarm_is_meant, the_engine, use_engine
from .completion import complete_image, complete_kernelspec
from .offered import choose, show
from .output import json_option, print_json
from .progress import notice, present, say_that_it_ends
from .settings import set_option, setting

_log = logging.getLogger(__name__)


@click.command()
@click.argument("image", required=False, shell_complete=complete_image)
@click.option(
    "--kernel",
    "names",
    metavar="NAME",
    multiple=True,
    help="A kernelspec of the image's, where it has several; 'all' is all of them. Can be given "
    "more than once.",
)
@click.option("--list", "only_list", is_flag=True, help="Only show what could be installed.")
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
@set_option
@click.option("--keep", is_flag=True, help="Kernels go on when their server ends.")
@click.option("--replace", is_flag=True, help="Overwrite another kernelspec of that name.")
@click.option("--no-check", is_flag=True, help="Install without starting a kernel first.")
@json_option
def install(
    image: str | None,
    names: tuple[str, ...],
    only_list: bool,
    origin: str | None,
    name: str | None,
    display_name: str | None,
    user: bool,
    sys_prefix: bool,
    prefix: str | None,
    further: dict[str, Any],
    keep: bool,
    replace: bool,
    no_check: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Install a kernelspec whose kernels run in containers.

    With IMAGE, kernels that are in the image; they are looked for where Jupyter would look. The
    image is not changed, and needs nothing besides the kernel. Without IMAGE, a kernel of this
    host: it sees the packages that are installed here, and nothing of your home.

    \b
    jupyter container-kernel install
    jupyter container-kernel install quay.io/jupyter/scipy-notebook --memory 4g

    A kernel is started and asked who it is before anything is installed. To install the same again
    changes nothing. 'jupyter kernelspec remove NAME' uninstalls.
    """
    if image and origin:
        raise click.UsageError("--from names a kernelspec of this host, and IMAGE is not one.")
    if not image and names:
        raise click.UsageError("--kernel needs an IMAGE. For this host, use --from.")
    provisioner = SWARM_PROVISIONER if swarm_is_meant() else PROVISIONER
    if not image and provisioner == SWARM_PROVISIONER:
        raise click.UsageError(
            "The nodes of a swarm do not have this host's Python: name an IMAGE."
        )
    if user + sys_prefix + bool(prefix) > 1:
        raise click.UsageError("--user, --sys-prefix and --prefix exclude each other.")
    config = _config(settings, further, image=image, keep=keep)
    if "engine_url" in further:
        use_engine(further["engine_url"])
    settled = _settled(provisioner, config)
    found = run(_in_image(image, settled)) if image else _on_host(origin, only_list=only_list)
    if only_list:
        show(found, as_json=as_json)
        return
    chosen = choose(found, names, image=image, may_ask=not as_json) if image else found
    if len(chosen) > 1 and (name or display_name):
        raise click.UsageError("--name and --display-name are for one kernel; several are chosen.")
    kernels = kernels_folder(user=user, prefix=sys.prefix if sys_prefix else prefix or "")
    if not image and kernels != kernels_folder(prefix=sys.prefix):
        chosen = [for_every_jupyter(spec) for spec in chosen]
    drafts = [
        draft(
            spec,
            config=config,
            provisioner=provisioner,
            name=name or "",
            display_name=display_name or "",
        )
        for spec in chosen
    ]
    done = run(_install(drafts, kernels, replace=replace, checks=not no_check))
    if as_json:
        print_json([facts(each) for each in done])
        return
    for each in done:
        tell(each, asked=config)


def install_image(image: str, *, may_ask: bool) -> list[Installed]:
    """What ``install IMAGE`` does, without what it says of the outcome."""
    found = run(_in_image(image, ContainerSettings(image=image).settings()))
    chosen = choose(found, (), image=image, may_ask=may_ask)
    drafts = [draft(spec, config={"image": image}) for spec in chosen]
    return run(_install(drafts, kernels_folder(), replace=False, checks=True))


def _config(
    settings: Mapping[str, Any], further: Mapping[str, Any], *, image: str | None, keep: bool
) -> dict[str, Any]:
    """The stanza's settings, of all the options that name some; `further` is ``--set``."""
    config = {option: value for option, value in settings.items() if value is not None}
    config |= {"image": image} if image else {}
    config |= {"on_server_exit": "keep"} if keep else {}
    config |= {"engine_url": given_engine()} if given_engine() else {}
    if twice := sorted(config.keys() & further.keys()):
        raise click.UsageError(f"{twice[0]} is given by --set and by an option of its own.")
    return {**config, **further}


def _settled(provisioner: str, config: Mapping[str, Any]) -> Settings:
    """Refuses what contradicts each other, and what that provisioner does not know."""
    kind = SETTINGS[provisioner]
    if strange := sorted(config.keys() - kind.class_trait_names(config=True)):
        raise click.UsageError(f"{strange[0]} is for kernels in a swarm: give --swarm, too.")
    return kind(**config).settings()


async def _in_image(image: str, settings: Settings) -> list[Kernelspec]:
    engine = await the_engine(of_images=True)
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
        done = await install_drafts(drafts, kernels, replace=replace, checks=checks)
    except asyncio.CancelledError:
        say_that_it_ends("Interrupted: nothing was installed.")
        raise
    for each in done:
        _warn_of_others(each)
    if any(each.draft.config.get("env") for each in done):
        _log.warning(
            "The values of env are in kernel.json, which others on this machine may be able to "
            "read. What env_passthrough names is taken from the server's environment instead."
        )
    return done


def _on_host(origin: str | None, *, only_list: bool) -> list[Kernelspec]:
    # It warns of a host without a kernel; the error says what to do about that.
    manager = KernelSpecManager(log=logging.Logger("silent", level=logging.CRITICAL))
    if only_list and not origin:
        return host_kernelspecs(manager)
    return [host_kernelspec(manager, origin or "")]


def facts(done: Installed) -> dict[str, Any]:
    """For ``--json``; of ``env`` the names only."""
    answer, config = done.answer, dict(done.draft.config)
    if "env" in config:
        config["env"] = sorted(config["env"])
    return {
        "name": done.draft.name,
        "display_name": done.draft.display_name,
        "folder": str(done.folder),
        "changed": done.is_new,
        "config": config,
        "answer": answer
        and {
            "language": answer.language,
            "version": answer.version,
            "seconds": round(answer.seconds, 3),
        },
    }


def tell(done: Installed, *, asked: Mapping[str, Any]) -> None:
    """The same in words. `asked` is the settings that were asked for."""
    answer, name = done.answer, done.draft.name
    if answer is not None:
        who = " ".join(filter(None, (answer.language, answer.version))) or "The kernel"
        notice(f"{printable(who)} answered from a container in {answer.seconds:.1f} s.")
        if "transport" in done.draft.config.keys() - asked.keys():
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
