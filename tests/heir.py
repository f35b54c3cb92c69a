"""A script: takes over kernels that were kept, runs a cell in each, and shuts them down.

Arguments: the cell, and the kernels' ids; without any it is all that have a record. Prints, as
JSON, what each kernel said, by its id.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from jupyter_client.multikernelmanager import AsyncMultiKernelManager

from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.store import RecordStore


async def adopt(managers: AsyncMultiKernelManager, kernel_id: str, code: str) -> str:
    parts = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            parts.append(message["content"]["text"])

    try:
        await managers.start_kernel(kernel_id=kernel_id, kernel_name="keep", adopt_only=True)
    except KernelNotAdoptable as exc:
        return f"not adopted: {exc}"
    client = managers.get_kernel(kernel_id).client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        await client.execute_interactive(code, timeout=30, output_hook=collect)
    finally:
        client.stop_channels()
    return "".join(parts)


async def main(code: str, *kernel_ids: str) -> None:
    managers = AsyncMultiKernelManager()
    recorded = [record["kernel_id"] for record in RecordStore().read_all()[0]]
    kernel_ids = kernel_ids or tuple(recorded)
    said = await asyncio.gather(*(adopt(managers, kernel_id, code) for kernel_id in kernel_ids))
    await managers.shutdown_all(now=True)
    json.dump(dict(zip(kernel_ids, said, strict=True)), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
