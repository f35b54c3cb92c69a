"""The kernel provisioner of kernels that are services of a swarm."""

from __future__ import annotations

import signal
from typing import Any

from ..engine.calls import Engine
from ..engine.find import open_swarm
from ..provisioner import ContainerProvisioner
from .settings import SwarmSettings


class SwarmProvisioner(SwarmSettings, ContainerProvisioner):  # type: ignore[metaclass]
    """Runs a kernel as a service of one task, on whichever node of a swarm has room for it.

    Named in a kernelspec's ``metadata.kernel_provisioner`` as ``container-swarm-provisioner``.
    The engine is a manager of the swarm. A kernel whose node is lost is dead, and starts on another
    one when it is restarted, as jupyter_client's restarter does by itself.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A swarm delivers no SIGINT; see "Kernel interrupt" in jupyter_client's documentation.
        self.kernel_spec.interrupt_mode = "message"

    async def _open_engine(self, choice: str, url: str) -> Engine:
        return await open_swarm(await super()._open_engine(choice, url))

    async def send_signal(self, signum: int) -> None:
        """SIGINT is the interrupt message; SIGTERM and SIGKILL take the task away.

        Raises `EngineError` for all others.
        """
        if signum == signal.SIGINT and self.has_process and self.parent is not None:
            await self.parent._async_interrupt_kernel()
        else:
            await super().send_signal(signum)

    def _let_make_way(self) -> None:
        """A service keeps its name, and its successor is to have it: nothing to put aside."""
