"""What a kernel manager asks for, as a `LaunchRequest`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import zmq

from .command import container_command
from .connection import Endpoint, is_encrypted
from .definition import LaunchRequest
from .errors import ConfigurationError
from .policy import Settings
from .store import KernelDirectory
from .transports import Transport, transport_named


def transport(settings: Settings) -> Transport:
    """The one that the settings name, to the engine that they are for."""
    return transport_named(
        settings.transport,
        network=settings.network,
        address=settings.topology.address,
        nodes=settings.topology.nodes,
    )


def host_endpoint(kernel_id: str, settings: Settings) -> Endpoint:
    """What the manager is told before the launch."""
    return transport(settings).host_endpoint(KernelDirectory.of(kernel_id).sockets)


# Of connections to another host, in milliseconds: a sign of life is sent this often; without an
# answer the connection is made anew. What is on the way forgets idle connections after a minute or
# more, and tells nobody; a broadcast is then not heard any more, and nothing else would notice.
_HEARTBEAT = {
    zmq.HEARTBEAT_IVL: 5_000,
    zmq.HEARTBEAT_TIMEOUT: 25_000,  # what is shorter than this TCP makes good by itself, whole
    zmq.HEARTBEAT_TTL: 60_000,  # after which the kernel gives up the connection
}


def connect_far(manager: Any, settings: Settings) -> dict[str, str]:
    """Have the manager's sockets ready for a kernel on another host, or in a network with other
    containers.

    Returns what `LocalProvisioner.pre_launch` is to be told besides. See "Transport encryption" in
    jupyter_client's documentation.
    """
    topology = settings.topology
    is_shared = topology.joins_network and settings.transport == "network"
    if not (topology.is_remote or is_shared):
        return {}
    for option, value in _HEARTBEAT.items() if topology.is_remote else ():
        # The default of sockets to come: a server's, which are idle for hours. (A `client()` has
        # a context of its own.)
        manager.context.setsockopt(option, value)
    if manager.transport_encryption == "required":
        return {}
    # Of kernels that can. On another host `launch_request` refuses the others.
    return {"transport_encryption": "auto"}


def launch_request(
    manager: Any,
    kernel_spec: Any,
    command: list[str],
    options: Mapping[str, Any],
    settings: Settings,
    *,
    kernel_id: str,
    connection_info: Mapping[str, Any],
    known_folder: str,
) -> LaunchRequest:
    """`command` and `options` are those of `launch_kernel`, after `pre_launch`.

    `known_folder` is the notebook's of an earlier run: who has adopted a kernel need not say.
    Raises `ConfigurationError` for a kernel whose messages others could read.
    """
    is_far = settings.topology.is_remote and not settings.topology.in_machine
    if is_far and not is_encrypted(connection_info) and not settings.allow_plaintext:
        raise ConfigurationError(
            f"The engine at {settings.topology.engine_url} is on another host, and the kernel "
            f"{manager.kernel_name!r} does not say that it can encrypt its messages (metadata "
            "supported_encryption: ['curve'], which ipykernel 7 can). Nothing was started. Add "
            "that to the kernelspec if it can, or set allow_plaintext=True."
        )
    if options.get("independent"):
        settings = replace(settings, on_server_exit="keep")
    return LaunchRequest(
        kernel_id=kernel_id,
        kernel_name=manager.kernel_name,
        command=container_command(
            command,
            template=kernel_spec.argv,
            connection_file=manager.connection_file,
            resource_dir=kernel_spec.resource_dir,
            in_image=bool(settings.image),
            interpreter=sys.executable,
        ),
        environment=options["env"],
        folder=str(options.get("cwd") or known_folder or Path.cwd()),
        resource_dir=kernel_spec.resource_dir,
        connection_info=connection_info,
        settings=settings,
        transport=transport(settings),
        # Among the servers of one runtime directory a server is known by its root.
        server=str(getattr(manager.parent, "root_dir", "")),
    )
