"""Kernels that other processes have, or nobody: ended, restarted and signalled.

Who has a kernel is asked to do it, if it is a Jupyter Server: it tells its front ends, and would
otherwise take the end for a death and start the kernel again. What nobody has is adopted for a
moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from ..adoptable import AdoptableKernel
from ..adoption import rebuild_record
from ..attached import AsyncAttachedKernelManager, control_async
from ..connection import from_json
from ..engine.base import ENDED, RUNNING
from ..engine.calls import Engine
from ..errors import ContainerGone, EngineError, KernelDied, KernelNotAdoptable, OwnerRefused
from ..handle import end_container
from ..internal_network import remove_internal_network
from ..policy import INTERNAL
from ..store import KernelDirectory, RecordStore, lease_facts, lease_is_held
from .kernels import ListedKernel, check_runs
from .servers import UnknownKernel, server_of

END_SECONDS = 10.0  # for the engine to end what was sent SIGKILL
ANSWER_SECONDS = 5.0


def check_ours(kernel: ListedKernel) -> None:
    """Raises `KernelNotAdoptable` for one that this user cannot control."""
    if kernel.waits:
        raise KernelNotAdoptable(
            f"Container {kernel.container.name} waits in a warm pool and is no kernel yet. It ends "
            f"with {kernel.owner_program or 'the process that keeps the pool'}."
        )
    if not kernel.is_ours:
        raise KernelNotAdoptable(
            f"Kernel {kernel.kernel_id} belongs to another user, or to a Jupyter with another "
            "runtime directory. Nothing was changed."
        )


async def end(engine: Engine, kernel: ListedKernel) -> str:
    """Shut it down for good; how that was done, in words.

    Raises `OwnerRefused`, `KernelNotAdoptable`, `EngineError`.
    """
    check_ours(kernel)
    if kernel.owner_lives:
        if (server := server_of(kernel.owner)) is not None:
            with contextlib.suppress(UnknownKernel):
                await server.shut_down(kernel.kernel_id)
                return f"shut down by {server.program}"
        if kernel.container.state in ENDED:
            return f"had ended already; {kernel.owner_program}, which has it, removes it"
        await _kill(engine, kernel)
        return f"killed; {kernel.owner_program}, which has it, sees it die"
    try:
        manager = await control_async(kernel.kernel_id)
    except (KernelNotAdoptable, NoSuchKernel):
        await _remove(engine, kernel)
        return "removed"
    await manager.shutdown_kernel()
    return "shut down"


async def _kill(engine: Engine, kernel: ListedKernel) -> None:
    container = kernel.container.id
    with contextlib.suppress(ContainerGone):
        run = (await engine.inspect(container)).started_at
        await end_container(engine, container, signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS  # some engines answer before it has ended
        # Whoever has it may start it again, sooner than this looks.
        while (found := await engine.inspect(container)).state in RUNNING:
            if found.started_at != run:
                return
            if time.monotonic() > deadline:
                raise EngineError(f"Container {container[:12]} was sent SIGKILL and still runs.")
            await asyncio.sleep(0.05)


async def _remove(engine: Engine, kernel: ListedKernel) -> None:
    """One that nobody has and nobody can have: it has ended, does not answer, or lost its record.

    Raises `KernelNotAdoptable` when somebody has it now.
    """
    records, directory = RecordStore(), KernelDirectory.of(kernel.kernel_id)
    record: dict[str, Any] = {}
    with contextlib.suppress(KernelNotAdoptable):
        record = records.read(kernel.kernel_id)
    for owner in (str(record.get("owner", "")), directory.marked()[0]):
        if lease_is_held(owner):
            raise KernelNotAdoptable(
                f"Kernel {kernel.kernel_id} was just adopted by process "
                f"{lease_facts(owner).get('pid')}. Nothing was changed; try again."
            )
    await engine.remove(kernel.container.id)
    records.forget(kernel.kernel_id)
    directory.remove()
    if kernel.facts is not None and kernel.facts.network == INTERNAL:
        await remove_internal_network(engine)


async def restart(engine: Engine, kernel: ListedKernel) -> str:
    """Start it anew, as a front end does; how that was done, in words.

    Raises `OwnerRefused`, also when who has it is no server; `KernelNotRunning` when nobody has it
    and it has ended; `KernelNotAdoptable`, `EngineError`.
    """
    check_ours(kernel)
    if not kernel.owner_lives:
        if kernel.container.state in ENDED:
            check_runs(kernel)
        manager = await control_async(kernel.kernel_id)
        try:
            await manager.restart_kernel()
        finally:
            await let_go(manager)
        return "restarted"
    if (server := server_of(kernel.owner)) is not None:
        with contextlib.suppress(UnknownKernel):
            await server.restart(kernel.kernel_id)
            return f"restarted by {server.program}"
    raise OwnerRefused(
        f"It belongs to {kernel.owner_program or 'a process'}, which is no Jupyter Server and "
        "cannot be asked to restart it. Restart it there, or end it with "
        "'jupyter container-kernel kill'."
    )


async def let_go(manager: AsyncAttachedKernelManager) -> None:
    """It goes on, and is again nobody's."""
    provisioner: Any = manager.provisioner
    await provisioner.detach()


async def send_signal(engine: Engine, kernel: ListedKernel, signum: int) -> str:
    """To the kernel's process group, whoever has it. SIGINT is an interrupt, in the kernel's way.

    Raises `KernelNotRunning`, and what `connection_info` raises.
    """
    check_ours(kernel)
    name = signal.Signals(signum).name
    if signum == signal.SIGINT and _interrupt_mode(kernel) == "message":
        await _ask_to_interrupt(engine, kernel)
    elif not await engine.signal(kernel.container.id, signum):
        check_runs(kernel, await engine.inspect(kernel.container.id))
        raise EngineError(f"The engine did not send {name} to {kernel.container.name}.")
    hint = ", which it gets when it is resumed" if kernel.container.state == "paused" else ""
    return f"was sent {name}{hint}"


def _interrupt_mode(kernel: ListedKernel) -> str:
    if kernel.facts is not None and kernel.facts.nodes is not None:
        return "message"  # as `SwarmProvisioner` has it, whatever the kernelspec says
    try:
        return str(KernelSpecManager().get_kernel_spec(kernel.kernel_name).interrupt_mode)
    except (NoSuchKernel, OSError, ValueError):
        return "signal"


async def _ask_to_interrupt(engine: Engine, kernel: ListedKernel) -> None:
    """See "Kernel interrupt" in jupyter_client's documentation."""
    client = AsyncKernelClient()
    client.load_connection_info(await connection_info(engine, kernel))
    client.start_channels(shell=False, iopub=False, stdin=False, hb=False, control=True)
    try:
        client.control_channel.send(client.session.msg("interrupt_request", {}))
        await client.get_control_msg(timeout=ANSWER_SECONDS)
    except Empty:
        raise KernelDied("It does not answer, and may not have been interrupted.") from None
    finally:
        client.stop_channels()


async def connection_info(engine: Engine, kernel: ListedKernel) -> Any:
    """What another client needs, as of now.

    Raises `KernelNotRunning`, `KernelNotAdoptable` when its record and its directory are lost,
    `ContainerGone`.
    """
    found = await engine.inspect(kernel.container.id)
    check_runs(kernel, found)
    try:
        record = RecordStore().read(kernel.kernel_id)
    except KernelNotAdoptable:
        record = rebuild_record(found)
    facts = AdoptableKernel.from_json(record)
    info = from_json(record.get("connection_info"))
    # An engine may have given it other ports since.
    return {**info, **facts.channels().resolve(facts.directory.sockets, found).as_fields()}
