"""``warm``: a warm pool for scripts and CI, kept by this process."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path

import click
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_client.manager import AsyncKernelManager

from ..engine.find import close_engines
from ..errors import ConfigurationError, ContainerProvisionerError
from ..store import own_lease
from ..templates import provisioner_of, template
from ..warm import WarmPool
from .completion import complete_kernelspec
from .output import json_option
from .progress import present


@click.command()
@click.argument("kernel", metavar="KERNELSPEC", shell_complete=complete_kernelspec)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many containers wait.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The notebooks' folder, which is mounted. Kernels in another folder start cold, unless "
    "their workspace is 'none'. Default: this folder.",
)
@click.option(
    "--max-age",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="When a container that waits is replaced.",
)
@json_option
def warm(kernel: str, size: int, folder: Path, max_age: float, as_json: bool) -> None:
    """Keep containers with kernels of KERNELSPEC that wait, until Ctrl-C.

    The next kernel that is started takes one of these, in a tenth of the time. Says "KERNELSPEC: N
    of N warm" each time that all are there; with --json, {"kernelspec": "KERNELSPEC", "warm": N}.
    Ctrl-C and SIGTERM are the way to end, and the exit code is then 0; nothing is left waiting.
    """
    asyncio.run(_keep(kernel, size, folder.absolute(), max_age, as_json=as_json))


async def _keep(kernel: str, size: int, folder: Path, max_age: float, *, as_json: bool) -> None:
    manager = AsyncKernelManager(kernel_name=kernel)
    provisioner = provisioner_of(manager)
    if provisioner is None:
        raise ConfigurationError(
            f"Kernelspec {kernel!r} does not name this provisioner in its metadata, so its kernels "
            "do not run in containers. 'jupyter container-kernel install"
            f"{'' if kernel == NATIVE_KERNEL_NAME else ' --from ' + kernel}' makes one that does."
        )
    own_lease()  # a pool would ask for it again and again, in a place where files cannot be written
    request, engine = await template(manager, provisioner, cwd=str(folder))
    settings = request.settings
    if settings.image and settings.pull_policy == "missing":  # a pool would do it unseen
        await present(engine, settings.image, deadline=settings.pull_timeout)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def is_full(name: str, number: int) -> None:
        as_object = json.dumps({"kernelspec": name, "warm": number})
        click.echo(as_object if as_json else f"{name}: {number} of {number} warm")
        full.append(number)

    def failed(exc: ContainerProvisionerError) -> bool:
        if not full and not ended.done():  # it has never worked: somebody waits for the line above
            ended.set_exception(exc)
        return not full

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    full: list[int] = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, end)
    pool = WarmPool(
        logging.getLogger(__name__),
        limit=sys.maxsize,  # others' containers, which it would count, are not this command's
        memory_limit=sys.maxsize,
        max_age=max_age,
        on_full=is_full,
        on_failure=failed,
    )
    pool.want(
        replace(request, settings=replace(request.settings, warm_pool_size=size)),
        engine,
        lasting=True,
    )
    try:
        await ended
    finally:
        await pool.close()
        close_engines()
