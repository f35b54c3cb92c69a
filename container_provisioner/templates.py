"""What a kernelspec's kernels would be, without starting one."""

from __future__ import annotations

import uuid
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from .definition import LaunchRequest
from .engine.calls import Engine
from .provisioner import ContainerProvisioner


async def template(
    manager: AsyncKernelManager, **options: Any
) -> tuple[LaunchRequest, Engine] | None:
    """The request that ``manager.start_kernel(**options)`` would make, and where. Starts nothing.

    None when its kernelspec names another provisioner. The manager is of no use afterwards. Raises
    `EngineError`, `ConfigurationError`, TraitError and `NoSuchKernel`.
    """
    manager.kernel_id = str(uuid.uuid4())
    manager.provisioner = KernelProvisionerFactory.instance().create_provisioner_instance(
        manager.kernel_id, manager.kernel_spec, parent=manager
    )
    if not isinstance(manager.provisioner, ContainerProvisioner):
        return None
    command, arguments = await manager.pre_start_kernel(**options)
    return await manager.provisioner.template(command, **arguments)
