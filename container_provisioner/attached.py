"""A kept kernel for a script: a manager that owns it, without a server."""

from __future__ import annotations

from typing import Any, TypeVar

from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_core.utils import run_sync
from traitlets import Int, List

from .adoptable import AdoptableKernel
from .errors import KernelNotAdoptable
from .guard import take_missed
from .kernelspecs import PROVISIONER, SWARM_PROVISIONER
from .store import RecordStore, runtime_folder
from .topology import SWARM


class AttachedKernelManager(KernelManager):
    """Controls an adopted kernel. When its process ends, the kernel goes on, as it did before."""

    missed: List[dict[str, Any]] = List(
        help="What the kernel said while nobody was attached: messages, in order."
    )
    dropped = Int(0, help="How many messages before those were dropped, for want of room.")


class AsyncAttachedKernelManager(AsyncKernelManager):
    """The same, to be awaited."""

    missed: List[dict[str, Any]] = List(help=AttachedKernelManager.missed.help)
    dropped = Int(0, help=AttachedKernelManager.dropped.help)


Manager = TypeVar("Manager", AttachedKernelManager, AsyncAttachedKernelManager)


def attach(kernel_id: str) -> AttachedKernelManager:
    """Adopt a kept kernel whose owner has ended.

    The manager's ``missed`` holds what the kernel said meanwhile, as messages that a client would
    have got, each with its ``channel``. ``shutdown_kernel`` ends the kernel; without it the kernel
    goes on when this process ends.

    Raises `KernelNotAdoptable` when there is no such kernel, when it is not certainly that kernel,
    or when its owner lives; `EngineError` when the engine does not answer. Nothing is changed then.
    """
    manager, options = _prepare(AttachedKernelManager, kernel_id)
    manager.start_kernel(**options)
    run_sync(_load_missed)(manager)
    return manager


async def attach_async(kernel_id: str) -> AsyncAttachedKernelManager:
    """As `attach`, for an event loop."""
    manager = await control_async(kernel_id)
    await _load_missed(manager)
    return manager


async def control_async(kernel_id: str) -> AsyncAttachedKernelManager:
    """The same, but what the kernel said meanwhile is left for the next who attaches."""
    manager, options = _prepare(AsyncAttachedKernelManager, kernel_id)
    await manager.start_kernel(**options)
    return manager


def _prepare(kind: type[Manager], kernel_id: str) -> tuple[Manager, dict[str, Any]]:
    record = RecordStore().read(kernel_id)
    facts = AdoptableKernel.from_json(record)
    if facts.on_server_exit != "keep":
        raise KernelNotAdoptable(
            f"Kernel {kernel_id} ends with the process that started it (on_server_exit is 'stop')."
        )
    manager = kind(
        kernel_name=facts.kernel_name,
        connection_file=str(runtime_folder() / f"kernel-{kernel_id}.json"),
    )
    # A kernelspec need not name us: JUPYTER_DEFAULT_PROVISIONER_NAME may have, when it started.
    spec: Any = manager.kernel_spec
    provisioner = SWARM_PROVISIONER if facts.engine_url.startswith(SWARM) else PROVISIONER
    spec.metadata.setdefault("kernel_provisioner", {"provisioner_name": provisioner, "config": {}})
    # Independent, for a restart later: it may have been kept for that, not by its kernelspec.
    options = {"cwd": facts.folder, "adopt_only": True, "independent": True}
    return manager, {"kernel_id": kernel_id, **options}


async def _load_missed(manager: Any) -> None:
    found = await take_missed(manager.kernel_id)
    messages = []
    for channel, frames in found.messages:
        _, parts = manager.session.feed_identities(frames)
        messages.append({**manager.session.deserialize(parts), "channel": channel})
    manager.missed, manager.dropped = messages, found.dropped
