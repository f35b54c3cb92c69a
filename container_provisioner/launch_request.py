"""What a kernel manager asks for, as a `LaunchRequest`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .command import container_command
from .definition import LaunchRequest
from .policy import Settings
from .transports import transport_named


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
    """
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
        transport=transport_named(settings.transport, network=settings.network),
        # Among the servers of one runtime directory a server is known by its root.
        server=str(getattr(manager.parent, "root_dir", "")),
    )
