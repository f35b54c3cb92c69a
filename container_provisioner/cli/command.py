"""The subcommands, and how their errors end: one line, and an exit code by kind."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click
from jupyter_client.kernelspec import NoSuchKernel
from traitlets import TraitError

from ..errors import ContainerProvisionerError
from .asking import ENGINE_URL, use_engine, use_swarm
from .attach import attach
from .build import build
from .cp import cp
from .doctor import doctor
from .inspect import inspect
from .install import install
from .kill import kill
from .logs import logs
from .output import drop_unwritten, print_error, ready_streams
from .progress import has_said_that_it_ends
from .prune import prune
from .ps import ps
from .restart import restart
from .stats import stats
from .warm import warm

_log = logging.getLogger(__name__)

_LISTS = "'ps' lists kernels, 'jupyter kernelspec list' kernelspecs."
_REMOVES = "'kill' ends and removes kernels, 'jupyter kernelspec remove' kernelspecs."

# What is typed by who knows docker and 'jupyter kernelspec', and what does it here.
_ELSEWHERE = {
    **dict.fromkeys(("list", "ls"), _LISTS),
    **dict.fromkeys(("remove", "rm", "uninstall"), _REMOVES),
    "stop": "'kill' ends kernels.",
    "exec": "'attach --run CODE' runs code in a kernel.",
    "top": "'stats' shows what kernels use.",
}


def _say_more(ctx: click.Context, param: click.Parameter, debug: bool) -> None:
    if debug:
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger("container_provisioner").setLevel(logging.DEBUG)


def _use_engine(ctx: click.Context, param: click.Parameter, url: str | None) -> None:
    if url:
        use_engine(url)


def _use_swarm(ctx: click.Context, param: click.Parameter, chosen: bool) -> None:
    if chosen:
        use_swarm()


def common_options(subcommand: click.Command) -> None:
    """Options that mean the same before and after the subcommand."""
    for option in (
        click.option(
            "--debug",
            is_flag=True,
            expose_value=False,
            callback=_say_more,
            help="Say more on standard error.",
        ),
        click.option(
            "--engine-url",
            metavar="URL",
            expose_value=False,
            callback=_use_engine,
            help="The container engine, such as unix:///var/run/docker.sock. Default: the variable "
            f"{ENGINE_URL}, else the first engine that answers. A kernelspec's stanza wins.",
        ),
        click.option(
            "--swarm",
            is_flag=True,
            expose_value=False,
            callback=_use_swarm,
            help="Work with kernels that run as services in the engine's swarm.",
        ),
    ):
        option(subcommand)


class Sections(click.Group):
    """A group whose help lists its subcommands by what they are for, in that order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, list[click.Command]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        self._sections[title] = list(commands)
        for subcommand in commands:
            common_options(subcommand)
            self.add_command(subcommand)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            # click would add an empty line anywhere. One is wanted to end the line with ^C, where
            # nothing was said yet.
            if sys.stderr.isatty() and not has_said_that_it_ends():
                click.echo(err=True)
            raise click.Abort from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] in _ELSEWHERE:
            raise click.UsageError(f"No such command {args[0]!r}. {_ELSEWHERE[args[0]]}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(each.name or "", each.get_short_help_str(limit=90)) for each in commands]
                )


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="container-provisioner")
def command() -> None:
    """Jupyter kernels in containers: from any image, or this machine's own Python.

    KERNEL is the beginning of a kernel's id, or of its container's id or name.
    """


common_options(command)
command.add_section("Get kernels", install, build)
command.add_section("See what runs", ps, stats, logs, inspect)
command.add_section("Control kernels", kill, restart, attach, cp)
command.add_section("Start faster", warm)
command.add_section("Find and clear up trouble", doctor, prune)


def main() -> None:
    """Exit codes: 0, 1 for what has no other, 2 for wrong arguments and settings, 3 and more by
    the kind of error (see `errors`), 130 after Ctrl-C where it is not the way to end."""
    ready_streams()
    # What a shell completes is the executable: its completion knows single words only.
    completes = "_JUPYTER_CONTAINER_KERNEL_COMPLETE" in os.environ
    name = "jupyter-container-kernel" if completes else "jupyter container-kernel"
    if not completes:  # a shell has no place for it
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("container_provisioner").setLevel(logging.INFO)
    try:
        status = command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        status = exc.exit_code
    except click.Abort:
        status = 130
    except NoSuchKernel as exc:
        print_error(f"There is no kernelspec {exc.name!r}; see 'jupyter kernelspec list'.")
        status = 2
    except TraitError as exc:
        print_error(str(exc))
        status = 2
    except ContainerProvisionerError as exc:
        print_error(str(exc))
        status = exc.exit_code
    except OSError as exc:  # a disk that is full, a folder that nobody may write
        drop_unwritten()
        what = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror or str(exc)
        print_error(f"{what}. Add --debug to see where it happened.")
        _log.debug("It happened here:", exc_info=exc)
        status = 1
    sys.exit(status or 0)
