"""The names by which everything of ours in an engine is recognised."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

PREFIX = "io.github.container-provisioner."

KERNEL_ID = PREFIX + "kernel-id"
"""The kernel's id, as the front ends know it. On every kernel container; see also `WARM`."""

WARM = PREFIX + "warm"
"""Digest of what a container of a warm pool is. Its `KERNEL_ID` is the name that it was made with;
whose kernel it has become is said by its present name, because no label can be changed."""

LAUNCH_ID = PREFIX + "launch-id"
"""A random name of the launch that created the container. Only that launch may undo it."""

KERNEL_NAME = PREFIX + "kernel-name"
"""The name of the kernelspec."""

OWNER_UID = PREFIX + "owner-uid"
"""The uid, on the host, of the process that launched the kernel."""

OWNER = PREFIX + "owner"
"""The lease of the process that created the container. With `PLACE`, names it for good."""

PLACE = PREFIX + "place"
"""The random name of the runtime directory in which the owner's lease and record stand."""

ON_SERVER_EXIT = PREFIX + "on-server-exit"
"""``stop`` or ``keep``: what happens to the container when its owner dies."""

RECORD = PREFIX + "record"
"""A copy of what the record says, as JSON, without the key and without what the engine knows."""

SPEC = PREFIX + "spec"
"""Digest of the container's definition: a restart in place needs an equal one."""

SCHEMA = PREFIX + "schema"
"""Version of the labels themselves."""

INTERNAL = PREFIX + "internal"
"""On our networks without a way out. One that has the name and not this label is somebody else's,
and may have a way out."""

INTERNAL_NETWORK = "container-provisioner-internal"
INTERNAL_BRIDGE = "jupyter-kernels"  # for firewalls to name; Linux takes fifteen characters

PUBLISHED_NETWORK = "container-provisioner-published"
"""Its counterpart for kernels that are used from another host: their ports are published there."""
PUBLISHED_BRIDGE = "jupyter-remote"

SWARM_NETWORK = "container-provisioner-swarm"
"""The same of a swarm, with a bridge on each node. Whoever sets up the swarm makes it."""

SERVICE = PREFIX + "service"
"""On a swarm's secret: the id of the service that it was made for."""

NETWORK = PREFIX + "network"
"""On a swarm's service: the network's name, where the swarm itself has an id only."""

END_SIGNAL = PREFIX + "end-signal"
"""On a swarm's service that was told to end: the signal's number. Its task is gone then."""

HOST_ENVIRONMENT = PREFIX + "host-environment"
"""On the image of empty directories that stands under the host's own Python environment."""

BUILT_AS = PREFIX + "built-as"
"""On an image that the command line has built: the name that it got, with its tag."""

SCHEMA_VERSION = "1"

KERNEL_NAME_PREFIX = "jupyter-kernel-"


def container_name(kernel_id: str) -> str:
    """The container name of a kernel: the same for every launch, so that two cannot exist.

    Kernel ids are uuids nearly always and stand in the name as they are. Any other text is
    reduced to the characters that an engine allows and told apart by a hash.
    """
    if re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", kernel_id):
        return f"{KERNEL_NAME_PREFIX}{kernel_id}"
    digest = hashlib.sha256(kernel_id.encode()).hexdigest()[:12]
    safe = re.sub(r"[^a-zA-Z0-9_.-]+", "-", kernel_id)[:40]
    return f"jupyter-kernel.{safe}-{digest}"  # a dot: no id that stands as it is gives that name


def warm_name(warm_id: str) -> str:
    """The name of a container that waits in a pool."""
    return f"jupyter-warm-{warm_id}"


def aside_name(name: str, owner: str) -> str:
    """The name of a container that has made way and is being removed by that owner."""
    return f"{name}.ended-{owner}"


def aside_owner(name: str) -> str:
    """Who is to remove it; empty when it is not being removed."""
    _, is_aside, owner = name.rpartition(".ended-")
    return owner if is_aside else ""


def is_of_kernel(name: str, labels: Mapping[str, str], kernel_id: str) -> bool:
    """Whether the container with that name and those labels is the kernel's."""
    if WARM in labels:
        return name == container_name(kernel_id)
    return labels.get(KERNEL_ID) == kernel_id


def waits(name: str, labels: Mapping[str, str]) -> bool:
    """Whether it is a container of a pool that no kernel has claimed."""
    return WARM in labels and name == labels.get(KERNEL_ID)


def label_filter(labels: Mapping[str, str | None]) -> list[str]:
    """As the engine's API filters by labels; None is any value."""
    return [name if value is None else f"{name}={value}" for name, value in labels.items()]


def owned(*, owner: str, place: str) -> dict[str, str]:
    """The labels of everything that is to end with its owner at the latest."""
    return {OWNER: owner, PLACE: place, ON_SERVER_EXIT: "stop", SCHEMA: SCHEMA_VERSION}


def kernel_labels(
    *,
    kernel_id: str,
    launch_id: str,
    kernel_name: str,
    uid: int,
    owner: str,
    place: str,
    on_server_exit: str,
) -> dict[str, str]:
    """The labels of a kernel's container that say whose it is."""
    return {
        **owned(owner=owner, place=place),
        ON_SERVER_EXIT: on_server_exit,
        KERNEL_ID: kernel_id,
        LAUNCH_ID: launch_id,
        KERNEL_NAME: kernel_name,
        OWNER_UID: str(uid),
    }
