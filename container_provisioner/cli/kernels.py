"""The kernels on an engine, as `ps` shows them, and the one that somebody means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

import click
from click.shell_completion import CompletionItem

from .. import labels
from ..adoptable import AdoptableKernel
from ..adoption import facts_beside
from ..engine.base import ENDED, RUNNING, ContainerInfo
from ..engine.calls import Engine
from ..errors import KernelNotAdoptable, KernelNotFound, KernelNotRunning
from ..exits import explain_exit
from ..host_environment import HOST_IMAGE, HOST_TITLE
from ..store import KernelDirectory, RecordStore, lease_facts, lease_is_held, place_id
from .asking import run, the_engine

NONE_RUN = "No kernels run here."


@dataclass(frozen=True, kw_only=True)
class ListedKernel:
    """A kernel's container, and what its launch wrote down. All that one list call can say."""

    kernel_id: str  # empty while it waits in a warm pool
    kernel_name: str  # the kernelspec's
    container: ContainerInfo
    image: str  # as the user named it
    is_ours: bool  # of this user and this runtime directory: only these can be controlled
    facts: AdoptableKernel | None  # None for others', and when they are lost
    owner: str  # the lease of who answers for it; empty when nobody does

    @property
    def waits(self) -> bool:
        """Whether it is a warm container that no kernel has claimed."""
        return labels.waits(self.container.name, self.container.labels)

    @property
    def owner_uid(self) -> int | None:
        uid = self.container.labels.get(labels.OWNER_UID, "")
        return int(uid) if uid.isdecimal() else None

    @property
    def is_kept(self) -> bool:
        """Whether it goes on and no process has it. Only to be asked of ours."""
        keeps = self.facts is not None and self.facts.on_server_exit == "keep"
        return keeps and self.container.state in RUNNING and not self.owner_lives

    @property
    def short_id(self) -> str:
        """Of a uuid the first part. What waits in a pool has its container's name."""
        head = self.kernel_id.partition("-")[0]
        is_uuid = len(self.kernel_id) == 36 and len(head) == 8
        return head if is_uuid else self.kernel_id or self.container.name

    @property
    def owner_lives(self) -> bool:
        """Only to be asked of ours."""
        return lease_is_held(self.owner)

    @property
    def owner_program(self) -> str:
        """Such as ``jupyter-lab 4711``; empty when it is not known."""
        facts = lease_facts(self.owner) if self.owner else {}
        return f"{facts['program']} {facts['pid']}" if {"program", "pid"} <= facts.keys() else ""


def why_ended(found: ContainerInfo) -> str:
    """What the engine says of a container that was inspected; empty when it has not ended."""
    status = found.exit_status
    return explain_exit(status, memory_limit=found.limits.memory) if status is not None else ""


async def list_kernels(engine: Engine, *, everyone: bool = False) -> list[ListedKernel]:
    """This user's kernels of this runtime directory, or everyone's; newest first. One call."""
    wanted = {labels.KERNEL_ID: None} if everyone else {labels.PLACE: place_id()}
    found = await engine.list_containers(wanted)
    kernels = [_listed(item) for item in found if labels.KERNEL_ID in item.labels]
    return sorted(kernels, key=lambda kernel: -kernel.container.created)


def _listed(found: ContainerInfo) -> ListedKernel:
    is_ours = found.labels.get(labels.PLACE) == place_id() and (
        found.labels.get(labels.OWNER_UID) == str(os.getuid())
    )
    waits = labels.waits(found.name, found.labels)
    facts = None
    if is_ours and not waits:
        with contextlib.suppress(KernelNotAdoptable):
            facts = facts_beside(found)
    return ListedKernel(
        kernel_id="" if waits else facts.identity.kernel_id if facts else _kernel_id(found),
        kernel_name=found.labels.get(labels.KERNEL_NAME, ""),
        container=found,
        image=facts.identity.image if facts else _image(found),
        is_ours=is_ours,
        facts=facts,
        owner=_owner(found, facts) if is_ours else found.labels.get(labels.OWNER, ""),
    )


def _owner(found: ContainerInfo, facts: AdoptableKernel | None) -> str:
    """Who has adopted it, or claimed it, or let go of it, is in no label."""
    if facts is not None:
        with contextlib.suppress(KernelNotAdoptable, KeyError, TypeError):
            record = RecordStore().read(facts.identity.kernel_id)
            if record["container"]["identity"]["container_id"] == found.id:
                return str(record.get("owner", ""))
    owner, _ = KernelDirectory.of(found.labels[labels.KERNEL_ID]).marked()
    return owner or found.labels.get(labels.OWNER, "")


def _image(found: ContainerInfo) -> str:
    """As its launch would call it."""
    is_host = found.image.startswith(f"{HOST_IMAGE}:")
    return HOST_TITLE if is_host else found.image


def _kernel_id(found: ContainerInfo) -> str:
    """Without the facts: of a claimed warm container the name has it, for any uuid."""
    if labels.WARM in found.labels:
        return found.name.removeprefix(labels.KERNEL_NAME_PREFIX)
    return found.labels[labels.KERNEL_ID]


def find_kernel(kernels: Iterable[ListedKernel], text: str) -> ListedKernel:
    """The one whose id, container's id or container's name begins with `text`; one whole id or name
    wins over prefixes. Raises `KernelNotFound`."""
    if not text:  # a variable of the shell's that is not set: no kernel was meant
        raise KernelNotFound(
            "KERNEL is empty; give the beginning of an id that 'jupyter container-kernel ps' lists."
        )
    kernels = list(kernels)
    for matches in (
        [kernel for kernel in kernels if text in _names(kernel)],
        [kernel for kernel in kernels if any(name.startswith(text) for name in _names(kernel))],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise KernelNotFound(
                f"{text!r} is the beginning of {len(matches)} kernels: "
                + ", ".join(sorted(kernel.kernel_id for kernel in matches))
                + ". Give more of it."
            )
    raise KernelNotFound(
        f"There is no kernel {text!r} here; 'jupyter container-kernel ps' lists them."
    )


def _names(kernel: ListedKernel) -> list[str]:
    names = [kernel.kernel_id, kernel.container.id, kernel.container.name]
    return [name for name in names if name]


def check_runs(kernel: ListedKernel, found: ContainerInfo | None = None) -> None:
    """`found` is its container as of now, if somebody has looked since the list was made.

    Raises `KernelNotRunning`.
    """
    state = (found or kernel.container).state
    if state == "paused":
        raise KernelNotRunning(
            f"It is paused. 'docker unpause {kernel.container.name}' lets it go on."
        ).about(kernel.kernel_id)
    if state not in RUNNING:
        has = "has ended" if state in ENDED else f"does not run: its container is {state}"
        raise KernelNotRunning(
            f"It {has}. 'jupyter container-kernel inspect' says why, 'logs' what it wrote, and "
            "'kill' removes it."
        ).about(kernel.kernel_id)


def complete_kernel(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """For a shell: the ids that begin so, each with its kernelspec. Quiet without an engine."""

    async def kernels() -> list[ListedKernel]:
        return await list_kernels(await the_engine())

    with contextlib.suppress(Exception):  # a shell has no place for an error here
        return [
            CompletionItem(kernel.kernel_id, help=kernel.kernel_name)
            for kernel in run(kernels())
            if kernel.kernel_id.startswith(incomplete)
        ]
    return []
