"""A script for a container in an overlay network: a kernel of the swarm that is in it, too.

Arguments: the kernel's image, the network, and a constraint for the kernel's node. Prints, as JSON,
what the kernel answered, whether that was encrypted, and which ports are published.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import docker
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager


def kernelspec(image: str, network: str, constraint: str) -> dict[str, Any]:
    config = {
        "image": image,
        "transport": "network",
        "network": network,
        "placement_constraints": [constraint],
    }
    provisioner = {"provisioner_name": "container-swarm-provisioner", "config": config}
    return {
        "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "In the overlay network",
        "language": "python",
        "metadata": {"supported_encryption": ["curve"], "kernel_provisioner": provisioner},
    }


async def answer(specs: KernelSpecManager) -> dict[str, Any]:
    manager = AsyncKernelManager(kernel_name="overlay", kernel_spec_manager=specs)
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        reply = await client.execute("", user_expressions={"sum": "6 * 7"}, reply=True, timeout=30)
        said = reply["content"]["user_expressions"]["sum"]["data"]["text/plain"]
        published = [
            port
            for service in docker.from_env().services.list()
            for port in service.attrs["Endpoint"].get("Ports", [])
        ]
        encrypted = manager.curve_secretkey is not None
        return {"said": said, "encrypted": encrypted, "published": published}
    finally:
        client.stop_channels()
        await manager.shutdown_kernel()


with tempfile.TemporaryDirectory() as folder:
    os.environ["JUPYTER_RUNTIME_DIR"] = folder
    file = Path(folder, "kernels", "overlay", "kernel.json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(kernelspec(*sys.argv[1:])))
    specs = KernelSpecManager(kernel_dirs=[str(file.parent.parent)])
    print(json.dumps(asyncio.run(answer(specs))))
