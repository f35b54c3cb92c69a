"""``restart``: kernels start anew, with the same ids."""

from __future__ import annotations

from typing import Any

import click

from . import control
from .choosing import for_each, several_kernels


@click.command()
@several_kernels
def restart(**options: Any) -> None:
    """Restart kernels; their variables are gone then, and whatever runs in them.

    A Jupyter Server that has the kernel is asked to do it, and its front ends see that. A kernel
    that was kept and that nobody has is restarted and goes on. Any other program has to restart its
    kernel itself. Prints the kernels' ids.
    """
    for_each(control.restart, "Restart", "restarted", **options)
