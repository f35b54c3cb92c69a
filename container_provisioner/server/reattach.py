"""Kept kernels change hands: from a server that was stopped or killed to the next one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from datetime import datetime, timezone
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

from ..adoptable import AdoptableKernel
from ..engine.base import RUNNING
from ..engine.find import open_engine
from ..errors import (
    ContainerGone,
    ContainerProvisionerError,
    EngineUnavailable,
    KernelNotAdoptable,
)
from ..exits import ExitStatus
from ..guard import GuardUnavailable, ask_guard
from ..handle import KernelContainer
from ..internal_network import leave_internal_network
from ..policy import INTERNAL
from ..provisioner import ContainerProvisioner
from ..store import RecordStore, lease_is_held
from . import replay
from .welcome import answer_beforehand

AT_ONCE = 8  # adoptions under way
RETRY_SECONDS = 10.0  # between two tries to reach an engine that did not answer at start-up


class Reattacher:
    """Adopts and detaches for one server's kernel manager."""

    def __init__(self, kernels: MappingKernelManager, log: logging.Logger) -> None:
        self.kernels: Any = kernels  # whose methods have no types
        self.log = log
        self.server = str(kernels.root_dir)
        self.records = RecordStore()
        self._ports: dict[str, list[int]] = {}
        self._retry: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)

    # -- at start-up ------------------------------------------------------------------------

    async def adopt_all(self) -> None:
        """Every kernel that was kept for this server. One that cannot be is reported and left."""
        if await self._adopt_all():
            self._retry = asyncio.ensure_future(self._try_again())

    async def _try_again(self) -> None:
        while await self._adopt_all():
            await asyncio.sleep(RETRY_SECONDS)

    async def _adopt_all(self) -> bool:
        """Returns whether an engine that did not answer has some."""
        records, problems = await asyncio.to_thread(self.records.read_all)
        for problem in problems:
            self.log.warning("%s", problem)
        waiting: list[AdoptableKernel] = []
        owners = set()
        for record in records:
            try:
                facts = AdoptableKernel.from_json(record)
            except KernelNotAdoptable as exc:
                self.log.warning("Kernel %s: %s", record["kernel_id"], exc)
                continue
            owner = str(record.get("owner", ""))
            known = facts.identity.kernel_id in self.kernels
            if facts.server == self.server and not known and not lease_is_held(owner):
                waiting.append(facts)
                owners.add(owner)
        for owner in filter(None, owners):
            with contextlib.suppress(GuardUnavailable):
                await ask_guard("settle", owner=owner)  # removes what was not to be kept
        outcomes = await asyncio.gather(*(self._adopt(facts) for facts in waiting))
        return any(outcomes)

    async def _adopt(self, facts: AdoptableKernel) -> bool:
        """Returns whether it has to be tried again."""
        kernel_id = facts.identity.kernel_id
        async with self._slots:
            if not self.records.path(kernel_id).exists():
                return False  # it was not to be kept
            try:
                if await self._has_ended(facts):
                    return False
                await self._start(facts)
            except EngineUnavailable as exc:
                self.log.warning("Kernel %s cannot be adopted yet: %s", kernel_id, exc)
                return True
            except Exception as exc:  # noqa: BLE001 - one kernel must not keep the server from starting
                self.log.warning("Kernel %s is not adopted: %s", kernel_id, exc)
                if kernel_id in self.kernels:
                    self.kernels.remove_kernel(kernel_id)
            return False

    async def _has_ended(self, facts: AdoptableKernel) -> bool:
        """Say what happened to it, and remove what nobody can want."""
        identity = facts.identity
        engine = await open_engine("auto", facts.engine_url)
        container = KernelContainer(engine=engine, identity=identity, log=self.log)
        try:
            found = await engine.inspect(identity.container_id)
        except ContainerGone:
            found = None
        if found is not None and found.state in RUNNING:
            return False
        await container.follow()
        container.unfollow()
        why = await container.explain(container.status or ExitStatus(code=1, removed=True))
        self.log.error(
            "Kernel %s ended while no server ran: %s No other was started.",
            identity.kernel_id,
            why,
        )
        if found is not None and not facts.read_only:
            self.log.warning(
                "Its container %s is left, for it may hold files ('docker cp'); "
                "'docker rm %s' removes it.",
                identity.container_name,
                identity.container_id[:12],
            )
        else:
            await container.remove()
            if facts.network == INTERNAL:
                await leave_internal_network(engine, self.log)
        facts.directory.remove()
        self.records.forget(identity.kernel_id)
        return True

    async def _start(self, facts: AdoptableKernel) -> None:
        kernel_id = facts.identity.kernel_id
        state = await self._state(kernel_id)
        # What a restart later is to have again.
        environment: dict[str, Any] = {}
        if facts.session_name:
            environment["env"] = {**os.environ, "JPY_SESSION_NAME": facts.session_name}
        await self.kernels.start_kernel(
            kernel_id=kernel_id,
            kernel_name=facts.kernel_name,
            cwd=facts.folder,
            adopt_only=True,
            independent=True,  # for a restart later: that may be why it was kept
            **environment,
        )
        kernel: Any = self.kernels.get_kernel(kernel_id)
        await kernel.ready
        # Done when it is ready, but as a task of its own when kernels may be pending.
        if task := self.kernels._pending_kernel_tasks.get(kernel_id):
            await task
        provisioner: ContainerProvisioner = kernel.provisioner
        kernel.reason = provisioner.reason
        kernel.execution_state = "busy" if provisioner.was_busy else "idle"
        if "last_activity" in state:
            kernel.last_activity = datetime.fromtimestamp(state["last_activity"], timezone.utc)
        answer_beforehand(kernel, provisioner.kernel_info or {})  # a busy kernel gives it late
        replay.expect(kernel_id)

    async def _state(self, kernel_id: str) -> dict[str, Any]:
        try:
            return await ask_guard("state", kernel=kernel_id)
        except GuardUnavailable as exc:
            self.log.warning(
                "Kernel %s: what it printed while no server ran was not recorded. %s",
                kernel_id,
                exc,
            )
            return {}

    # -- while it runs ----------------------------------------------------------------------

    def launched(self, provisioner: ContainerProvisioner) -> None:
        """jupyter_server follows new ports after restarts of its own, not after a restarter's."""
        manager: Any = provisioner.parent
        kernel_id = provisioner.kernel_id
        if kernel_id not in self.kernels or self.kernels.get_kernel(kernel_id) is not manager:
            return
        ports = list(manager.ports)
        if self._ports.get(kernel_id, self.kernels._kernel_ports.get(kernel_id, ports)) != ports:
            reason = manager.reason
            self.kernels.stop_watching_activity(kernel_id)
            manager.execution_state = "starting"
            self.kernels.start_watching_activity(kernel_id)
            manager.reason = reason
        self._ports[kernel_id] = ports

    # -- at a clean stop --------------------------------------------------------------------

    async def detach_all(self) -> None:
        """Let go of the kernels that are to be kept; the others are the server's to shut down."""
        if self._retry is not None:
            self._retry.cancel()
        for kernel_id in self.kernels.list_kernel_ids():
            manager: Any = self.kernels.get_kernel(kernel_id)
            provisioner = manager.provisioner
            if isinstance(provisioner, ContainerProvisioner) and provisioner.is_kept:
                try:
                    await self._detach(kernel_id, manager)
                except (ContainerProvisionerError, OSError) as exc:
                    self.log.warning("Kernel %s cannot be kept: %s", kernel_id, exc)

    async def _detach(self, kernel_id: str, manager: Any) -> None:
        manager.stop_restarter()
        await manager.provisioner.detach()
        for connection in list(ZMQChannelsWebsocketConnection._open_sockets):
            if connection.kernel_id == kernel_id:
                connection.websocket_handler.close()
                connection.close()  # type: ignore[no-untyped-call]
        self.kernels.stop_buffering(kernel_id)
        self.kernels.stop_watching_activity(kernel_id)
        self.kernels.remove_kernel(kernel_id)
        self.log.info("Kernel %s goes on without this server.", kernel_id)
