"""What a swarm answers about a service and its task, as the container that it is to us."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..exits import KILLED, format_size
from ..labels import END_SIGNAL, NETWORK
from ..spec import Limits, Mount
from .answers import seconds_of
from .base import ContainerInfo, State

Body = Mapping[str, Any]

# A task's states, in the order it goes through them, from the Docker Engine API, "List tasks".
_BEFORE = {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"}
# A node that died while kernels were in a network of the swarm: its bridge driver has that network
# on disk, the rest of its engine does not, so it can be neither used nor made (Docker 20.10).
_STALE_NETWORK = re.compile(r"network \S+ exists$")
_CURE = (
    ", because it died while kernels were in that network; when no kernel runs, remove the network "
    "on a manager and make it again (docs/swarm.md)"
)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A member of a swarm."""

    name: str  # its hostname
    address: str
    is_down: bool  # the swarm has given it up; "unknown", after a manager's own start, is not that
    message: str = ""  # why


GONE = Node(name="that was removed", address="", is_down=True)


def node_of(body: Body) -> Node:
    """One of ``GET /nodes``."""
    status, manager = body.get("Status") or {}, body.get("ManagerStatus") or {}
    address = status.get("Addr") or ""
    if address in ("", "0.0.0.0"):  # noqa: S104 - as a manager calls itself
        address = (manager.get("Addr") or "").rpartition(":")[0].strip("[]")
    return Node(
        name=(body.get("Description") or {}).get("Hostname") or body["ID"],
        address=address,
        is_down=status.get("State") in ("down", "disconnected"),
        message=status.get("Message") or "",
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """The last task of a service: one run of the kernel, or the wait for one."""

    task: Body = field(default_factory=dict)
    node: Node | None = None  # None: it has none yet

    @classmethod
    def last(cls, tasks: Sequence[Body], nodes: Mapping[str, Node]) -> Run:
        """Of all the tasks of one service."""
        if not tasks:
            return cls()
        task = max(tasks, key=lambda task: str(task["CreatedAt"]))
        node_id = task.get("NodeID")
        return cls(task=task, node=nodes.get(node_id, GONE) if node_id else None)

    @property
    def status(self) -> Body:
        return self.task.get("Status") or {}

    @property
    def is_lost(self) -> bool:
        """Whether its node is: the swarm has given it up, and ends it should the node come back."""
        return self.node is not None and self.node.is_down and not self.has_ended

    @property
    def has_ended(self) -> bool:
        return bool(self.task) and self.status.get("State") not in (*_BEFORE, "running")

    @property
    def is_refused(self) -> bool:
        """Its node can run none like it, for a reason that is the node's own."""
        words = str(self.status.get("Err") or "")
        return self.status.get("State") == "rejected" and bool(_STALE_NETWORK.match(words))

    @property
    def elsewhere(self) -> str:
        """The constraint that keeps the next task off its node."""
        return f"node.id!={self.task.get('NodeID')}"

    def state(self, *, wanted: bool) -> State:
        """`wanted`: the service is to have a task."""
        if not self.task:
            return "created" if wanted else "exited"
        if self.is_lost:
            return "dead"
        if self.has_ended:
            return "created" if wanted and self.is_refused else "exited"
        return "running" if self.status.get("State") == "running" else "created"

    @property
    def exit_code(self) -> int:
        if self.is_lost:
            return 1
        code = (self.status.get("ContainerStatus") or {}).get("ExitCode") or 0
        if code <= 0:  # it never ran, or what became of it nobody knows
            return 0 if self.status.get("State") == "complete" else 1
        return int(code)

    def error(self, memory: int | None) -> str:
        """Why it ended, or does not begin, as far as its exit code does not say."""
        words = str(self.status.get("Err") or "")
        if self.is_lost and self.node is not None:
            why = f" ({self.node.message})" if self.node.message else ""
            return f"its node {self.node.name!r} was lost to the swarm{why}"
        if self.has_ended and self.exit_code == KILLED and memory:
            return (
                f"it was ended by SIGKILL (exit code {KILLED}), most likely because it ran out of "
                f"memory (memory_limit is {format_size(memory)}), which a swarm does not tell"
            )
        if words.startswith("task: non-zero exit"):
            return ""
        where = f" on node {self.node.name!r}" if self.node is not None else ""
        return f"{words}{where}{_CURE if self.is_refused else ''}" if words else ""


def service_info(service: Body, run: Run) -> ContainerInfo:
    """``GET /services/{id}`` and its last task."""
    spec = service["Spec"]
    labels, template = spec.get("Labels") or {}, spec["TaskTemplate"]
    container = template["ContainerSpec"]
    limits = (template.get("Resources") or {}).get("Limits") or {}
    memory = limits.get("MemoryBytes") or None
    wanted = bool(spec["Mode"]["Replicated"].get("Replicas"))
    end_signal = int(labels.get(END_SIGNAL) or 0)
    state = run.state(wanted=wanted)
    if not wanted and not run.task and not end_signal:
        state = "created"
    exit_code, error = 0, run.error(memory)
    if state in ("exited", "dead"):
        exit_code = run.exit_code if run.task else 128 + end_signal
        if end_signal:
            error = ""  # no wonder
    ports = (run.status.get("PortStatus") or {}).get("Ports") or ()
    host = run.node.address if run.node is not None else ""
    attached = run.task.get("NetworksAttachments") or ()
    return ContainerInfo(
        id=service["ID"],
        name=spec["Name"],
        state=state,
        labels=labels,
        image=container.get("Image") or "",
        created=seconds_of(service.get("CreatedAt") or ""),
        network=labels.get(NETWORK, ""),
        exit_code=exit_code,
        error=error,
        started_at=str(run.task.get("CreatedAt") or ""),
        addresses={
            each["Network"]["Spec"]["Name"]: each["Addresses"][0].partition("/")[0]
            for each in attached
            if each.get("Addresses")
        },
        published={
            int(port["TargetPort"]): (host, int(port["PublishedPort"]))
            for port in ports
            if port.get("PublishedPort")
        },
        user=container.get("User") or "",
        read_only=bool(container.get("ReadOnly")),
        limits=Limits(
            memory=memory,
            cpus=(limits.get("NanoCPUs") or 0) / 1e9 or None,
            pids=limits.get("Pids") or None,
        ),
        mounts=tuple(
            Mount(
                source=mount["Source"],
                target=mount["Target"],
                read_only=bool(mount.get("ReadOnly")),
            )
            for mount in container.get("Mounts") or ()
            if mount["Type"] == "bind"
        ),
        node=run.node.name if run.node is not None else "",
        # Until `SwarmEngine.start` has excluded that node.
        is_refused=run.is_refused and run.elsewhere not in constraints_of(template),
    )


def constraints_of(template: Body) -> list[str]:
    """Of a service's task template: where its tasks may run."""
    return list((template.get("Placement") or {}).get("Constraints") or ())
