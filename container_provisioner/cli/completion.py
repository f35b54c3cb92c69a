"""What a shell may complete in the place of a kernelspec."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem
from jupyter_client.kernelspec import KernelSpecManager


def complete_kernelspec(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of this host's kernelspecs that begin like what was typed."""
    found = KernelSpecManager().find_kernel_specs()
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]
