"""Which warm pools a server keeps: for the kernelspecs that ask, in the folders that are used."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_client.manager import AsyncKernelManager

from ..provisioner import ContainerProvisioner
from ..templates import provisioner_of, template
from ..warm import WarmPool


class Warming:
    """Tells a pool what is wanted. A kernelspec asks by ``warm_pool_size``."""

    def __init__(self, app: Any, pool: WarmPool) -> None:
        self.app, self.pool = app, pool

    async def want_kernelspecs(self) -> None:
        """For notebooks in the server's root directory; others are learned when they start."""
        kernels = self.app.kernel_manager
        names = await asyncio.to_thread(self.app.kernel_spec_manager.find_kernel_specs)
        for name in sorted(names):
            try:
                manager = AsyncKernelManager(
                    parent=kernels,
                    kernel_name=name,
                    kernel_spec_manager=self.app.kernel_spec_manager,
                )
                provisioner = provisioner_of(manager)
                if provisioner is None or not provisioner.warm_pool_size:
                    continue
                # As the server starts them: it passes its own policy, if it has one.
                encryption = getattr(kernels, "transport_encryption", "disabled")
                policy = {} if encryption == "disabled" else {"transport_encryption": encryption}
                folder = kernels.cwd_for_path("")
                found = await template(manager, provisioner, cwd=folder, **policy)
            except Exception as exc:  # noqa: BLE001 - one kernelspec that is wrong is not all
                self.app.log.debug("Kernelspec %s has no warm pool: %s", name, exc)
                continue
            self.pool.want(*found, lasting=True)

    def launched(self, provisioner: ContainerProvisioner) -> None:
        """The next kernel in that folder is to start warm."""
        asked = provisioner.launched_as
        if asked is not None and asked[0].settings.warm_pool_size:
            self.pool.want(*asked)
