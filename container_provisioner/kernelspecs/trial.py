"""A kernel that is started as any front end would start it, to be looked at, and ended."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from ..adoptable import AdoptableKernel
from ..errors import KernelDied, StartTimeout
from ..store import own_lease, runtime_folder

_log = logging.getLogger(__name__)
# jupyter_client writes a traceback for a kernel that does not start. Here it is raised, and said.
_silent = logging.getLogger(f"{__name__}.kernel")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A kernel that runs, for as long as the context of `trial` lasts."""

    client: AsyncKernelClient
    info: Mapping[str, Any]  # the content of its kernel_info_reply
    facts: AdoptableKernel
    folder: Path  # the notebook's, which is empty
    seconds: float  # from the request for a kernel to its answer
    address: str  # of its ports, or what its sockets' names begin with
    is_encrypted: bool


def trial_manager(name: str, specs: KernelSpecManager | None = None) -> AsyncKernelManager:
    """For a kernel of that kernelspec. What goes wrong is for who tries it to say."""
    _silent.setLevel(logging.CRITICAL)
    log = _log if _log.isEnabledFor(logging.DEBUG) else _silent
    options = {"kernel_spec_manager": specs} if specs is not None else {}
    return AsyncKernelManager(kernel_name=name, log=log, **options)


@asynccontextmanager
async def trial(kernel: AsyncKernelManager, timeout: float) -> AsyncIterator[Trial]:
    """Start it in an empty folder and wait `timeout` seconds for it to answer; end it afterwards.

    Nothing is left, whatever happens. Raises `KernelDied`, `StartTimeout`, `EngineError`,
    `ConfigurationError`.
    """
    own_lease()  # where it can be had, other files can be written, too
    runtime = runtime_folder()
    began = time.monotonic()
    # In a folder that engines reach, because the kernels' sockets are in it; of whatever user the
    # kernel is, because nobody but this one comes past the folder around it.
    with tempfile.TemporaryDirectory(prefix="container-kernel-", dir=runtime) as scratch:
        folder = Path(scratch, "notebooks")
        folder.mkdir()
        folder.chmod(0o777)
        client = None
        try:
            await kernel.start_kernel(cwd=str(folder))
            client = kernel.client()
            client.start_channels()
            yield Trial(
                client=client,
                info=await _kernel_info(kernel, client, timeout),
                facts=cast(Any, kernel.provisioner).facts,
                folder=folder,
                seconds=time.monotonic() - began,
                address=kernel.ip,
                is_encrypted=kernel.curve_secretkey is not None,
            )
        finally:
            if client is not None:
                client.stop_channels()
            if kernel.has_kernel:
                await kernel.shutdown_kernel(now=True)


async def _kernel_info(
    kernel: AsyncKernelManager, client: AsyncKernelClient, timeout: float
) -> dict[str, Any]:
    try:
        await client.wait_for_ready(timeout=timeout)
        reply = await client.kernel_info(reply=True, timeout=timeout)
    except RuntimeError as exc:
        reason = getattr(kernel.provisioner, "reason", None)
        if reason:
            raise KernelDied(f"The kernel died before it answered: {reason}") from exc
        raise _no_answer(timeout) from exc
    except TimeoutError as exc:
        raise _no_answer(timeout) from exc
    content: dict[str, Any] = reply["content"]
    return content


def _no_answer(timeout: float) -> StartTimeout:
    return StartTimeout(
        f"The kernel opened its channels and did not answer within {timeout:g} s (start_timeout)."
    )
