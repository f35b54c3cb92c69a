"""Start two kernels of a kernelspec and say how long each took: ``time_starts.py KERNELSPEC``."""

import json
import subprocess
import sys
import time

from jupyter_client.manager import KernelManager


def first_reply(manager: KernelManager) -> float:
    """Seconds from the request for a kernel to its first reply."""
    started = time.perf_counter()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.kernel_info(reply=True, timeout=60)
    seconds = time.perf_counter() - started
    client.stop_channels()
    return seconds


def containers(state: str) -> dict[str, str]:
    """The kernel id that belongs to each container in that state."""
    command = ("jupyter", "container-kernel", "ps", "--json")
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {each["container_id"]: each["kernel_id"] for each in listed if each["state"] == state}


waiting = containers("waiting")
managers = [KernelManager(kernel_name=sys.argv[1]) for _ in range(2)]
try:
    times = [first_reply(manager) for manager in managers]
    waited = [kernel for container, kernel in containers("running").items() if container in waiting]
finally:
    for manager in managers:
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
for manager, seconds in zip(managers, times, strict=True):
    what = "a container that waited" if manager.kernel_id in waited else "a new container"
    print(f"{seconds:.3f} s to the first reply, in {what}")
