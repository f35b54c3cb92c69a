"""The network of kernels that need one and are not to get out: one for each engine.

It is made when a container is to join it and is not there, and goes with the last of its
containers. Any number of processes may do either at the same time.

An engine publishes no ports of an internal network. For kernels that are used from another host
there is one of another kind: not internal, and without the translation of addresses that lets
others answer. A swarm's is made by who sets up the swarm.
"""

from __future__ import annotations

import asyncio
import logging

from . import labels
from .engine.calls import Engine, to_the_end
from .errors import ConfigurationError, EngineError, NameTaken
from .topology import Topology, topology_of

_ATTEMPTS = 5

# A manager hands no driver options on to the nodes; each has to have them already.
_BRIDGE = "com.docker.network.bridge"
_NOT_IN_SWARM = (
    "This swarm has no network for kernels that are not to get out. Nothing was started. Set "
    "network='bridge' if they may, or have such a network made: on each node 'docker network "
    f"create --config-only --opt {_BRIDGE}.enable_ip_masquerade=false --opt {_BRIDGE}.enable_icc="
    "false jupyter-kernels', and then on a manager 'docker network create --scope swarm --driver "
    f"bridge --config-from jupyter-kernels {labels.SWARM_NETWORK}'."
)


def internal_network_name(topology: Topology) -> str:
    """What it is called by an engine on this host, or on another, or by a swarm."""
    if topology.is_swarm:
        return labels.SWARM_NETWORK
    return labels.PUBLISHED_NETWORK if topology.is_remote else labels.INTERNAL_NETWORK


def internal_network_of(engine: Engine) -> str:
    """What it is called by that engine, as this process reaches it."""
    return internal_network_name(topology_of(engine.url, own=engine.own))


async def ensure_internal_network(engine: Engine) -> None:
    """Have it. Raises `EngineError` when something else has its name or its bridge, and
    `ConfigurationError` for a swarm that does not have it."""
    topology = topology_of(engine.url, own=engine.own)
    if topology.is_swarm:
        if not any(found.config_from for found in await engine.networks(labels.SWARM_NETWORK)):
            raise ConfigurationError(_NOT_IN_SWARM)
        return
    name, taken = internal_network_name(topology), ""
    bridge = labels.INTERNAL_BRIDGE if engine.is_local else labels.PUBLISHED_BRIDGE
    for _ in range(_ATTEMPTS):
        found = await engine.networks(name)
        if any(
            labels.INTERNAL not in network.labels or network.internal != engine.is_local
            for network in found
        ):
            raise EngineError(
                f"The engine has a network {name!r} that is not this package's. Nothing was "
                "started in it, because it may have a way out; remove it, or rename it."
            )
        if found:
            return
        try:
            await engine.create_network(
                name,
                bridge=bridge,
                internal=engine.is_local,
                labels={labels.INTERNAL: "", labels.SCHEMA: labels.SCHEMA_VERSION},
            )
            return
        except NameTaken as exc:  # by whoever was faster; it may have been removed by now
            taken = str(exc)
    raise EngineError(
        f"The network of kernels without a way out cannot be made: {taken}. Remove what has its "
        f"name {name!r} or its bridge {bridge!r}."
    )


async def remove_internal_network(engine: Engine) -> bool:
    """Remove it unless a container is in it, an ended one too. True: there was one, it is gone.

    Raises `EngineError` when the engine does not do it. Quiet about what is not this package's.
    """
    name = internal_network_of(engine)
    found = await engine.networks(name)
    if not any(labels.INTERNAL in network.labels for network in found):
        return False
    return await engine.remove_network(name)


async def leave_internal_network(engine: Engine, log: logging.Logger) -> None:
    """Remove it after one of its containers was removed, whoever cancels; a failure is logged."""
    try:
        await to_the_end(asyncio.ensure_future(remove_internal_network(engine)))
    except EngineError as exc:
        log.warning("Network %s may be left behind: %s", internal_network_of(engine), exc)
