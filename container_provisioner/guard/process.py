"""The guard's own process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..store import Place, RecordStore, hold, lease_facts, lease_is_held, leases, state_folder
from ..store.lease import end_lease, wait_for_lease
from ..store.places import sweep
from .client import socket_path

if TYPE_CHECKING:
    from .recorder import Recorder

# After the death of an owner the engine may still carry out what it was asked last.
PASSES = (0.0, 1.0, 3.0, 6.0)  # seconds after the death
LOOK_SECONDS = 1.0  # at kept kernels that nobody attends, and at whether there is anything to do
RELIST_SECONDS = 30.0  # between two questions to an engine about kept kernels
LINGER_SECONDS = 3.0  # after the last thing was done: the next kernel may come at once
GIVE_UP_SECONDS = 600.0  # on an engine that does not answer; the next guard tries again

Request = dict[str, Any]


class Guard:
    """Waits for deaths and for requests; ends when there is neither owner nor kept kernel."""

    def __init__(self, log: logging.Logger) -> None:
        self.log = log
        self._path = socket_path()
        self.records = RecordStore()
        self._place = Place.own()
        self._loop = asyncio.get_running_loop()
        self._owners: dict[str, asyncio.Event] = {}  # lease -> set after the first try to settle
        self._recorders: dict[str, Recorder] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy_until = time.monotonic() + LINGER_SECONDS
        self._leaving = False
        self._relisted = 0.0
        self._problems: dict[str, str] = {}  # by kernel, so that each is told once

    async def run(self) -> None:
        self._socket = self._path.stat()
        self._take_stock()
        while not self._is_done:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look_at_kept()
        for recorder in self._recorders.values():
            recorder.close()

    def _take_stock(self) -> None:
        """Of what an earlier guard may have left: owners dead or alive, kernels let go of."""
        records, problems = self.records.read_all()
        for problem in problems:
            self.log.warning("%s", problem)
        owners = {str(record.get("owner", "")) for record in records}
        for owner in {*leases(), *owners} - {""}:
            self._guard(owner)
        for record in records:
            if not record.get("owner"):
                self._keep_watch(str(record["kernel_id"]))

    def _keep_watch(self, kernel_id: str) -> None:
        """Record what a kernel says that nobody has; not if its record is of no use."""
        from ..errors import KernelNotAdoptable

        try:
            self._record(kernel_id).unattend()
        except KernelNotAdoptable as exc:
            self.log.warning("Kernel %s is not recorded: %s", kernel_id, exc)

    @property
    def can_be_asked(self) -> bool:
        """False when somebody has emptied the folder; there may be another guard already."""
        try:
            return os.path.samestat(self._path.stat(), self._socket)
        except FileNotFoundError:
            return False

    @property
    def _is_done(self) -> bool:
        if not self.can_be_asked:
            return True
        if self._owners or (self._recorders and not self._leaving):
            return False
        return self._leaving or time.monotonic() > self._busy_until

    def leave(self) -> None:
        """End as soon as no owner lives; nobody records then what kept kernels say."""
        self._leaving = True

    # -- owners -----------------------------------------------------------------------------

    def _guard(self, owner: str) -> asyncio.Event:
        settled = self._owners.get(owner)
        if settled is None:
            settled = self._owners[owner] = asyncio.Event()
            threading.Thread(target=self._wait_for, args=(owner,), daemon=True).start()
        return settled

    def _wait_for(self, owner: str) -> None:
        wait_for_lease(owner)
        self._loop.call_soon_threadsafe(self._spawn_settle, owner)

    def _spawn_settle(self, owner: str) -> None:
        for recorder in self._recorders.values():
            if self._owner_of(recorder.kernel_id) == owner:
                recorder.unattend()
        task = asyncio.ensure_future(self._settle(owner))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, owner: str) -> None:
        from ..errors import ContainerProvisionerError
        from .settle import settle  # the engine's SDK: a tenth of a second

        began = time.monotonic()
        engines = [str(url) for url in lease_facts(owner).get("engines", ())]
        self.log.debug("Owner %s has died.", owner)  # as each command does that has a lease
        passes = list(PASSES)
        while passes:
            await asyncio.sleep(max(0.0, began + passes[0] - time.monotonic()))
            if not self.can_be_asked:
                return  # nor can anything be found: this guard ends
            try:
                done = await settle(owner, engines, self.records, self._place, self.log)
            except ContainerProvisionerError as exc:
                self.log.warning("Owner %s: %s", owner, exc)
                self._owners[owner].set()  # nobody is to wait for an engine
                if time.monotonic() - began > GIVE_UP_SECONDS:
                    break
                passes[0] = time.monotonic() - began + min(30.0, 2 * passes[0] + 1.0)
                continue
            except Exception:
                self.log.exception("Owner %s cannot be settled.", owner)
                break
            for kernel_id in done.kept:
                if self._owner_of(kernel_id) == owner:  # nobody has adopted it meanwhile
                    self._keep_watch(kernel_id)
            self._owners[owner].set()
            passes.pop(0)
        else:
            end_lease(owner)
            sweep()
        self._owners.pop(owner).set()

    # -- kept kernels -----------------------------------------------------------------------

    def _owner_of(self, kernel_id: str) -> str:
        from ..errors import KernelNotAdoptable

        try:
            return str(self.records.read(kernel_id).get("owner", ""))
        except KernelNotAdoptable:
            return ""

    def _record(self, kernel_id: str) -> Recorder:
        """The kernel's recorder, for what its record says now. Raises `KernelNotAdoptable`."""
        from ..connection import from_json
        from .recorder import Recorder

        info = from_json(self.records.read(kernel_id).get("connection_info"))
        recorder = self._recorders.get(kernel_id)
        if recorder is None:
            recorder = self._recorders[kernel_id] = Recorder(kernel_id, info, self.log)
        recorder.follow(info)
        return recorder

    def _forget(self, kernel_id: str) -> None:
        recorder = self._recorders.pop(kernel_id, None)
        if recorder is not None:
            recorder.close()

    async def _look_at_kept(self) -> None:
        for kernel_id in list(self._recorders):
            if not self.records.path(kernel_id).exists():
                self._forget(kernel_id)  # it was shut down
        orphans = [r for r in self._recorders.values() if not r.attended]
        if not orphans:
            return
        from ..errors import ContainerProvisionerError

        running: dict[str, set[str]] | None = None  # by engine
        if time.monotonic() - self._relisted > RELIST_SECONDS:
            self._relisted, running = time.monotonic(), {}
        for recorder in orphans:
            try:
                await self._look_at(recorder, running)
            except ContainerProvisionerError as exc:
                if self._problems.get(recorder.kernel_id) != str(exc):
                    self._problems[recorder.kernel_id] = str(exc)
                    self.log.warning("Kernel %s: %s", recorder.kernel_id, exc)

    async def _look_at(self, recorder: Recorder, running: dict[str, set[str]] | None) -> None:
        """At one kept kernel. Raises `KernelNotAdoptable` when its record is of no use."""
        from ..adoptable import AdoptableKernel
        from .settle import remove_kept, running_containers

        record = self.records.read(recorder.kernel_id)
        facts = AdoptableKernel.from_json(record)
        self._restore_connection_file(record)
        idle = recorder.idle_for(time.time())
        if 0 < facts.max_idle < idle and not lease_is_held(str(record.get("owner"))):
            await remove_kept(record, self.records)
            self._forget(recorder.kernel_id)
            self.log.info(
                "Kernel %s: idle for %.0f s without a server, more than its max_idle of %g s; "
                "it is removed.",
                recorder.kernel_id,
                idle,
                facts.max_idle,
            )
        elif running is not None:
            if facts.engine_url not in running:
                running[facts.engine_url] = await running_containers(facts.engine_url, self._place)
            has_ended = facts.identity.container_id not in running[facts.engine_url]
            if has_ended and not recorder.recorded:
                self._forget(recorder.kernel_id)  # the next server says what has happened

    def _restore_connection_file(self, record: dict[str, Any]) -> None:
        """A manager takes its file with it; ``jupyter console --existing`` still wants one."""
        path = self.records.connection_file(record)
        info = record.get("connection_info")
        if path is not None and isinstance(info, dict) and not path.exists():
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(descriptor, "w", encoding="ascii") as file:
                    json.dump(info, file, indent=2)

    # -- requests ---------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for each connection, a line of JSON; the answer likewise."""
        try:
            request = json.loads(await reader.readline())
            self._busy_until = time.monotonic() + LINGER_SECONDS
            try:
                answer = await self._answer(request)
            except Exception as exc:  # noqa: BLE001 - whoever asked is told
                self.log.warning("%s: %s", request.get("do"), exc)
                answer = {"error": str(exc) or type(exc).__name__}
            writer.write(json.dumps(answer).encode("ascii"))
            await writer.drain()
        except (OSError, ValueError) as exc:
            self.log.debug("A request that was none: %s", exc)
        finally:
            writer.close()

    async def _answer(self, request: Request) -> dict[str, Any]:
        do, kernel = request["do"], str(request.get("kernel", ""))
        if do == "guard":  # the kernels of that owner
            self._guard(request["owner"])
        elif do == "settle":  # answer when what that dead owner left behind is in order
            if request["owner"] in leases() and not lease_is_held(request["owner"]):
                await self._guard(request["owner"]).wait()
        elif do == "keep":  # a kernel was launched or adopted that may outlive its owner
            self._record(kernel)
        elif do == "release":  # its owner lets go of it
            self._record(kernel).unattend()
        elif do == "state":
            recorder = self._recorders[kernel]
            return {
                "execution_state": recorder.execution_state,
                "last_activity": recorder.last_activity,
                "recorded": recorder.recorded,
            }
        elif do == "step-aside":
            if kernel in self._recorders:
                self._recorders[kernel].step_aside()
        elif do == "take":
            messages, dropped = self._recorders[kernel].take()
            return {
                "messages": [
                    (channel, [base64.b64encode(frame).decode("ascii") for frame in frames])
                    for channel, frames in messages
                ],
                "dropped": dropped,
            }
        else:
            raise ValueError(f"no such request: {do}")
        return {}


async def _main(ready: int) -> None:
    log = logging.getLogger("container_provisioner.guard")
    guard = Guard(log)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, guard.leave)
    for signum in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, lambda: None)
    path = socket_path()
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(guard.serve, str(path))
    os.write(ready, b"1")
    os.close(ready)
    try:
        await guard.run()
    finally:
        server.close()
        if guard.can_be_asked:
            path.unlink(missing_ok=True)


def main() -> None:
    """Become a daemon; the first process ends when the second one listens.

    Quiet, and successful, when there is a guard already.
    """
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        said = os.read(read, 1)
        os._exit(0 if said else os.waitpid(child, 0)[1] and 1)
    os.close(read)
    if not hold(state_folder() / "guard.lock"):
        os._exit(0)
    log_file = Path(state_folder() / "guard.log")
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(write))
