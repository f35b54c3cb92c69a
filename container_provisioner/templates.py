"""What a kernelspec's kernels would be, without starting one."""

from __future__ import annotations

import uuid
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from .definition import LaunchRequest
from .engine.calls import Engine
from .errors import ContainerProvisionerError
from .provisioner import ContainerProvisioner


def provisioner_of(manager: AsyncKernelManager) -> ContainerProvisioner | None:
    """Give the manager the provisioner that its kernelspec names; None if that is not ours.

    Raises TraitError for a stanza that makes no sense, and `NoSuchKernel`.
    """
    manager.kernel_id = str(uuid.uuid4())
    manager.provisioner = KernelProvisionerFactory.instance().create_provisioner_instance(
        manager.kernel_id, manager.kernel_spec, parent=manager
    )
    provisioner = manager.provisioner
    return provisioner if isinstance(provisioner, ContainerProvisioner) else None


async def template(
    manager: AsyncKernelManager, provisioner: ContainerProvisioner, **options: Any
) -> tuple[LaunchRequest, Engine]:
    """The request that ``manager.start_kernel(**options)`` would make, and where. Starts nothing.

    The manager is of no use afterwards. Raises `EngineError`, `ConfigurationError`, TraitError.
    """
    try:
        command, arguments = await manager.pre_start_kernel(**options)
        return await provisioner.template(command, **arguments)
    except ContainerProvisionerError as exc:
        raise exc.about("") from exc.__cause__  # the kernel that it says is none
