"""What a shell may complete in the place of a kernelspec and of an image."""

from __future__ import annotations

import contextlib

import click
from click.shell_completion import CompletionItem
from jupyter_client.kernelspec import KernelSpecManager

from ..engine.base import ImageInfo
from .asking import run, the_engine


def complete_kernelspec(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of this host's kernelspecs that begin like what was typed."""
    found = KernelSpecManager().find_kernel_specs()
    return [CompletionItem(name) for name in sorted(found) if name.startswith(incomplete)]


def complete_image(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of the engine's images that begin so. Quiet without an engine."""

    async def images() -> list[ImageInfo]:
        return await (await the_engine(of_images=True)).list_images({})

    with contextlib.suppress(Exception):  # a shell has no place for an error here
        names = sorted(name for image in run(images()) for name in image.names)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []
