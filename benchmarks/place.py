"""What is compared, and the temporary directory it is compared in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is compared: a provisioner, its configuration, the manager's transport."""

    name: str
    provisioner: str
    transport: str = "tcp"
    config: dict[str, Any] = field(default_factory=dict)


class ProvisionerMissingError(LookupError):
    """A column's provisioner has no entry point here, so jupyter_client hides its kernelspec."""

    def __init__(self, provisioner: str) -> None:
        super().__init__(
            f"{provisioner} is not installed in this environment. "
            "Run 'make bench', or 'pip install -e .' first."
        )


class Place:
    """A temporary directory with the kernelspecs, the connection files and the notebook folder."""

    def __init__(self, directory: Path, columns: list[Column]) -> None:
        self.workspace = directory / "workspace"
        self.workspace.mkdir(mode=0o755)
        self.runtime = directory / "runtime"
        self.runtime.mkdir(mode=0o700)
        specs = directory / "kernels"
        for number, column in enumerate(columns):
            spec = specs / f"column{number}"
            spec.mkdir(parents=True)
            (spec / "kernel.json").write_text(json.dumps(_kernelspec(column, directory)))
        self.names = {column.name: f"column{n}" for n, column in enumerate(columns)}
        self.specs = KernelSpecManager(kernel_dirs=[str(specs)], ensure_native_kernel=False)
        for column in columns:
            try:
                self.specs.get_kernel_spec(self.names[column.name])
            except NoSuchKernel:
                raise ProvisionerMissingError(column.provisioner) from None
        self.stock = zmq.asyncio.Context()
        self.fine = zmq.asyncio.Context()
        self.fine.setsockopt(zmq.RECONNECT_IVL, 10)
        self._numbers = count()

    def manager(self, column: Column, context: zmq.asyncio.Context) -> AsyncKernelManager:
        return AsyncKernelManager(
            kernel_name=self.names[column.name],
            kernel_spec_manager=self.specs,
            connection_file=str(self.runtime / f"kernel-{next(self._numbers)}.json"),
            transport=column.transport,
            context=context,
        )

    def close(self) -> None:
        self.stock.destroy(linger=0)
        self.fine.destroy(linger=0)


def _kernelspec(column: Column, directory: Path) -> dict[str, Any]:
    stanza = {"provisioner_name": column.provisioner, "config": column.config}
    spec: dict[str, Any] = {
        # ipykernel 7 warns of every tcp kernel without encryption; errors are still shown.
        "argv": ["python", "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"],
        "display_name": column.name,
        "language": "python",
        # Named even for the local one, so JUPYTER_DEFAULT_PROVISIONER_NAME changes nothing.
        "metadata": {"kernel_provisioner": stanza},
    }
    if column.provisioner == "local-provisioner":
        # Not the user's own profile and history; a container has none of theirs either.
        spec["env"] = {"IPYTHONDIR": str(directory / "ipython")}
    return spec
