"""A front end's first answer, without the waits that are for kernels which may not listen yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from ..provisioner import ContainerProvisioner

OPEN_SECONDS = 0.4  # then jupyter_server does it its own way
_ASK_AGAIN_SECONDS = 0.2


class WelcomingConnection(ZMQChannelsWebsocketConnection):
    """Opens as soon as the kernel's output is known to reach this front end.

    jupyter_server nudges a kernel that may not listen yet: it asks on two channels at once, which a
    kernel with one interpreter for both answers late, and looks every 50 ms whether it has heard of
    the kernel itself. One in a container listens when its start ends, and `prepare` has had an
    answer from it. One question, which it answers on iopub too, tells the rest.
    """

    def connect(self) -> asyncio.Future[None] | None:  # type: ignore[override]
        # A kernel answers in several small messages. Without this each of them waits for a front
        # end to acknowledge the one before, which the other side's system puts off for 40 ms.
        self.websocket_handler.set_nodelay(True)
        return super().connect()

    def nudge(self) -> asyncio.Future[None]:
        # A busy kernel would answer late; jupyter_server asks it nothing.
        is_busy = getattr(self.kernel_manager, "execution_state", "") == "busy"
        if is_busy or not isinstance(self.kernel_manager.provisioner, ContainerProvisioner):
            return super().nudge()
        return asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        ports = list(self.kernel_manager.ports)
        shell = self.kernel_manager.connect_shell()  # not the front end's: the answer is not its
        try:
            arrived = await self.until_subscribed(
                lambda: self.session.send(shell, "kernel_info_request"), OPEN_SECONDS
            )
        finally:
            shell.close()
        # The server's own subscription is the older one: it has heard the same by now, or before.
        is_known = getattr(self.kernel_manager, "execution_state", "") != "starting"
        # As jupyter_server: what was connected before a restart at new ports hears nothing.
        is_lost = self.channels["iopub"].closed() or ports != list(self.kernel_manager.ports)
        if not (arrived and is_known) and not is_lost:
            await super().nudge()

    async def until_subscribed(self, ask: Callable[[], Any], seconds: float) -> list[list[bytes]]:
        """`ask` the kernel for anything until something arrives on iopub; returns what did.

        Until then the kernel may not know of this subscriber. Empty when nothing came in time.
        """
        iopub, early = self.channels["iopub"], []
        arrived = asyncio.Event()

        def receive(frames: list[bytes]) -> None:
            early.append(frames)
            arrived.set()

        iopub.on_recv(receive)
        try:
            for _ in range(round(seconds / _ASK_AGAIN_SECONDS)):
                ask()
                with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                    await asyncio.wait_for(arrived.wait(), _ASK_AGAIN_SECONDS)
                    break
        finally:
            if not iopub.closed():
                iopub.stop_on_recv()
        return early
