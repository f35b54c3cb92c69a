"""Run quickstart.ipynb in a container and hold what it saw against what is promised.

Says what the kernel saw from inside, times start and first reply beside a local kernel, and looks
for anything left behind. Exits with 1 when a promise is not kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import docker
import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from container_provisioner.engine.find import open_engine
from container_provisioner.labels import KERNEL_ID

HERE = Path(__file__).resolve().parent
SECRET = "QUICKSTART_SECRET"  # in our environment, and nothing the notebook should know
ROUNDS = 5


def command(*arguments: str) -> None:
    """Type it, as it were: ``jupyter container-kernel …``."""
    print(f"$ jupyter container-kernel {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "container_provisioner", *arguments], check=True)
    print(flush=True)


def install_kernelspecs(prefix: Path) -> None:
    """One whose kernels run in containers, and a local one; JUPYTER_PATH leads there, for us."""
    command("install", "--prefix", str(prefix), "--name", "container")
    kernels = prefix / "share" / "jupyter" / "kernels"
    local = json.loads((kernels / "container" / "kernel.json").read_text())
    local["metadata"] = {"kernel_provisioner": {"provisioner_name": "local-provisioner"}}
    # Over TCP, a local kernel's default, ipykernel warns that nothing is encrypted: no news here.
    local["argv"].append("--log-level=ERROR")
    (kernels / "local").mkdir()
    (kernels / "local" / "kernel.json").write_text(json.dumps(local))


def run_notebook(kernel_name: str) -> tuple[str, dict[str, Any], str]:
    """Execute the notebook: what it printed, the facts it found, and its kernel's id."""
    notebook = nbformat.read(HERE / "quickstart.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name=kernel_name,
        resources={"metadata": {"path": str(HERE)}},
        startup_timeout=120,
        timeout=60,
    )
    kernel_ids: list[str] = []
    client.on_notebook_start = lambda **_: kernel_ids.append(str(client.km.kernel_id))
    client.on_cell_start = lambda cell_index, **_: (  # its kernel runs
        command("ps") if cell_index == len(notebook.cells) - 1 else None
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    return text, outputs[-1].data["application/json"], kernel_ids[0]


def promises(facts: dict[str, Any]) -> dict[str, bool]:
    return {
        "the notebook's user is not root": facts["uid"] != 0,
        "it has no capability and can gain none": (
            facts["capabilities"] == 0 and facts["no_new_privileges"]
        ),
        "its only network interface is lo, and no route leads anywhere": (
            facts["interfaces"] == ["lo"] and facts["routes"] == []
        ),
        "it cannot open a connection": facts["connection"] == "Network is unreachable",
        "it writes to its own home and /tmp, and nowhere else": (
            facts["writable"]
            == {"workspace": False, "home": True, "/tmp": True, "/usr": False, "/etc": False}
        ),
        "it does not see the engine's socket": not facts["engine_socket"],
        "it does not see our environment": SECRET not in facts["environment"],
    }


def first_reply(kernel_name: str) -> tuple[float, str]:
    """Seconds from the request for a kernel to its first reply, and its id."""
    manager = KernelManager(kernel_name=kernel_name)
    started = time.perf_counter()
    manager.start_kernel(cwd=str(HERE))
    try:
        client = manager.client()
        client.start_channels()
        try:
            client.kernel_info(reply=True, timeout=60)
            return time.perf_counter() - started, str(manager.kernel_id)
        finally:
            client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)


def containers_of(kernel_ids: list[str]) -> list[str]:
    choice = os.environ.get("CONTAINER_PROVISIONER_ENGINE", "auto")
    url = os.environ.get("CONTAINER_PROVISIONER_ENGINE_URL", "")
    engine = docker.DockerClient(base_url=asyncio.run(open_engine(choice, url)).url)
    every = engine.containers.list(all=True, filters={"label": KERNEL_ID}, ignore_removed=True)
    return [str(each.name) for each in every if each.labels[KERNEL_ID] in kernel_ids]


def main() -> int:
    os.environ[SECRET] = "not for the notebook"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["JUPYTER_PATH"] = f"{scratch}/share/jupyter"
        install_kernelspecs(Path(scratch))

        print("What the notebook printed, in a container\n")
        text, facts, kernel_id = run_notebook("container")
        print("".join(f"  {line}\n" for line in text.splitlines()))

        kept = promises(facts)
        times: dict[str, list[float]] = {"container": [], "local": []}
        kernel_ids = [kernel_id]
        for _ in range(ROUNDS):
            for name, seconds in times.items():  # in turn, so that a busy moment hits both
                taken, kernel_id = first_reply(name)
                seconds.append(taken)
                kernel_ids.append(kernel_id)

    left = containers_of(kernel_ids)
    kept["nothing is left behind" + "".join(f" ({name} is)" for name in left)] = not left

    print("What is promised, and whether this run kept it\n")
    for promise, was_kept in kept.items():
        print(f"  {'kept  ' if was_kept else 'BROKEN'}  {promise}")

    print(f"\nStart to first reply, median of {ROUNDS}, taken in turn\n")
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, median in medians.items():
        print(f"  {name:<10} {median:.2f} s")
    print(f"  ratio      {medians['container'] / medians['local']:.2f}")
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
