"""The subcommands, and how their errors end: one line, and an exit code by kind."""

from __future__ import annotations

import logging
import sys

import click
from jupyter_client.kernelspec import NoSuchKernel
from traitlets import TraitError

from ..errors import ContainerProvisionerError
from .warm import warm


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="container-provisioner")
@click.option("--debug", is_flag=True, help="Say more on standard error.")
def command(debug: bool) -> None:
    """Jupyter kernels in containers."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("container_provisioner").setLevel(logging.DEBUG if debug else logging.INFO)


command.add_command(warm)


def main() -> None:
    """Exit codes: 0, 1 for what has no other, 2 for wrong arguments and settings, 3 and more by
    the kind of error (see `errors`), 130 after Ctrl-C where it is not the way to end."""
    try:
        status = command.main(prog_name="jupyter container-kernel", standalone_mode=False)
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
