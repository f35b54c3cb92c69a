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
from .attach import attach
from .build import build
from .cp import cp
from .doctor import doctor
from .inspect import inspect
from .install import install
from .kill import kill
from .logs import logs
from .prune import prune
from .ps import ps
from .restart import restart
from .stats import stats
from .warm import warm

ENGINE_URL = "CONTAINER_PROVISIONER_ENGINE_URL"


class Sections(click.Group):
    """A group whose help lists its subcommands by what they are for, in that order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, list[click.Command]] = {}

    def add_section(self, title: str, *commands: click.Command) -> None:
        self._sections[title] = list(commands)
        for subcommand in commands:
            self.add_command(subcommand)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(each.name or "", each.get_short_help_str(limit=90)) for each in commands]
                )


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="container-provisioner")
@click.option("--debug", is_flag=True, help="Say more on standard error.")
@click.option(
    "--engine-url",
    metavar="URL",
    help="The container engine, such as unix:///var/run/docker.sock. Default: the variable "
    f"{ENGINE_URL}, else the first engine that answers. A kernelspec's stanza wins.",
)
def command(debug: bool, engine_url: str | None) -> None:
    """Jupyter kernels in containers: from any image, or this machine's own Python.

    KERNEL is the beginning of a kernel's id, or of its container's id or name.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("container_provisioner").setLevel(logging.DEBUG if debug else logging.INFO)
    if engine_url:
        os.environ[ENGINE_URL] = engine_url  # for the kernels, too, that a subcommand starts


command.add_section("Kernels to start", install, build)
command.add_section("Look", ps, stats, logs, inspect)
command.add_section("Kernels to control", kill, restart, attach, cp)
command.add_section("Faster starts", warm)
command.add_section("Set right", doctor, prune)


def main() -> None:
    """Exit codes: 0, 1 for what has no other, 2 for wrong arguments and settings, 3 and more by
    the kind of error (see `errors`), 130 after Ctrl-C where it is not the way to end."""
    # What a shell completes is the executable: its completion knows single words only.
    completes = "_JUPYTER_CONTAINER_KERNEL_COMPLETE" in os.environ
    name = "jupyter-container-kernel" if completes else "jupyter container-kernel"
    try:
        status = command.main(prog_name=name, standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        status = exc.exit_code
    except click.Abort:
        status = 130
    except NoSuchKernel as exc:
        click.echo(
            f"Error: There is no kernelspec {exc.name!r}; see 'jupyter kernelspec list'.", err=True
        )
        status = 2
    except TraitError as exc:
        click.echo(f"Error: {exc}", err=True)
        status = 2
    except ContainerProvisionerError as exc:
        click.echo(f"Error: {exc}", err=True)
        status = exc.exit_code
    sys.exit(status or 0)
