"""What a Jupyter Server does for kernels in containers beyond starting them.

At start-up it takes over the kernels that an earlier server with the same root directory kept; at a
clean stop it lets go of them. In between it opens pages without a detour, replays what was printed
meanwhile to the first one, follows a kernel whose ports change, keeps the sessions in a file, keeps
warm pools, says in the page why a kernel died, tells the event bus where kernels are, and counts
for ``/metrics``.
"""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from traitlets import Bool, TraitError

from ..provisioner import ContainerProvisioner
from ..store import hold, short_name, state_folder
from ..trait_types import Count, Seconds, Size, parse_size
from ..warm import WarmPool
from . import replay
from .death_notices import noticing
from .events import KernelEvents
from .metrics import KernelMetrics
from .reattach import Reattacher
from .warming import Warming

MEMORY = ":memory:"  # SessionManager's default


class ContainerKernels(ExtensionApp):
    """See "Server Extensions" in jupyter_server's documentation."""

    name = "container_provisioner"

    adopt_kernels = Bool(
        True,
        config=True,
        help="""
        Take over, at start-up, the kernels that an earlier server with the same root directory
        left running (``on_server_exit = "keep"``). Default True. Without it they go on until they
        are shut down, or their ``max_idle`` is over.
        """,
    )
    persist_sessions = Bool(
        True,
        config=True,
        help="""
        Keep the sessions, which say which notebook has which kernel, in a file in Jupyter's
        runtime directory, so that a page that is open finds its kernel again after a restart of
        the server. Default True. Not done when ``SessionManager.database_filepath`` is set, or
        when another server with the same root directory runs.
        """,
    )

    warm_limit = Count(
        8,
        config=True,
        help="""
        Containers that may wait in all, for the kernelspecs with a ``warm_pool_size`` and the
        folders in which they are used. Default 8; 0 keeps none.
        """,
    )
    warm_memory = Size(
        "1g",
        config=True,
        help="Memory, in bytes, that all waiting containers together may use. Default ``1g``.",
    )
    warm_max_age = Seconds(
        1800.0,
        config=True,
        help="""
        Seconds after which a waiting container is replaced, and after which a folder that no kernel
        was started in has none any more. Default 1800.
        """,
    )

    def initialize_settings(self) -> None:
        """Runs before the server listens."""
        self.app = cast(Any, self.serverapp)
        kernels = self.app.kernel_manager
        if self.app.gateway_config.gateway_enabled or not isinstance(kernels, MappingKernelManager):
            self.log.info("Kernels are another server's here; none can be taken over.")
            return
        self.reattacher = Reattacher(kernels, self.log)
        # Not the web application's own: ours are laid over those when this returns.
        self.settings["kernel_websocket_connection_class"] = noticing(
            replay.replaying(self.settings["kernel_websocket_connection_class"])
        )
        ContainerProvisioner.observers.append(self.reattacher.launched)
        self.events = KernelEvents(self.app)
        self.metrics = KernelMetrics(kernels)
        if self.persist_sessions:
            self._persist_sessions()
        if self.adopt_kernels:
            self._adopt()
        if self.warm_limit:
            self.warming = Warming(
                self.app,
                WarmPool(
                    self.log,
                    limit=self.warm_limit,
                    memory_limit=parse_size(self.warm_memory) or sys.maxsize,
                    max_age=self.warm_max_age,
                ),
            )
            self.metrics.pool = self.warming.pool
            ContainerProvisioner.observers.append(self.warming.launched)
            self.app.io_loop.add_callback(self.warming.want_kernelspecs)

    def _adopt(self) -> None:
        loop = self.app.io_loop
        if loop.asyncio_loop.is_running():  # somebody embeds the server: as soon as possible then
            loop.add_callback(self.reattacher.adopt_all)
        else:
            loop.run_sync(self.reattacher.adopt_all)

    def _persist_sessions(self) -> None:
        sessions: Any = self.app.session_manager
        if getattr(sessions, "database_filepath", "") != MEMORY:
            return
        path = state_folder() / f"sessions-{short_name(self.app.root_dir)}.sqlite"
        # One server deletes the sessions of kernels that it does not know: those of another one.
        if not hold(path.with_suffix(".lock")):
            self.log.info("Another server with this root directory runs; sessions stay in memory.")
            return
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            sessions.database_filepath = str(path)
        except (OSError, TraitError) as exc:
            self.log.warning("Sessions will not survive this server: %s", exc)

    async def stop_extension(self) -> None:
        """Before the server shuts down all kernels that it then has.

        Each thing once: a server whose shutdown fails comes here again when it is told again.
        """
        if (warming := vars(self).pop("warming", None)) is not None:
            ContainerProvisioner.observers.remove(warming.launched)
            await warming.pool.close()
        if (reattacher := vars(self).pop("reattacher", None)) is not None:
            ContainerProvisioner.observers.remove(reattacher.launched)
            await reattacher.detach_all()
            self.events.close()
            self.metrics.close()
