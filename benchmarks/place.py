"""What is compared, and the temporary directory it is compared in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
import zmq.asyncio
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager

if TYPE_CHECKING:
    from pool import Pool

LOCAL = "local-provisioner"
OURS = "container-provisioner"

# ipykernel 7 warns of every tcp kernel without encryption; errors are still shown.
IPYKERNEL = ("python", "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}")


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is compared: a provisioner, its configuration, the manager's transport."""

    name: str
    provisioner: str
    transport: str = "tcp"
    encryption: str = "disabled"  # the manager's transport_encryption
    config: dict[str, Any] = field(default_factory=dict)
    argv: tuple[str, ...] = IPYKERNEL
    env: dict[str, str] = field(default_factory=dict)

    @property
    def is_warm(self) -> bool:
        return bool(self.config.get("warm_pool_size"))


def warm_column(**config: Any) -> Column:
    """Starts that claim. One container for every folder, as a server with many has it."""
    stanza = {"warm_pool_size": 1, "workspace": "none", **config}
    return Column(name="warm", provisioner=OURS, config=stanza)


class ProvisionerMissingError(LookupError):
    """A column's provisioner has no entry point here, so jupyter_client hides its kernelspec."""

    def __init__(self, provisioner: str) -> None:
        super().__init__(
            f"{provisioner} is not installed in this environment. "
            "Run 'make bench', or 'pip install -e .' first."
        )


class Place:
    """A Jupyter of its own in a temporary directory: nothing of the user's is read or written.

    Each column has two kernelspecs: as it comes, and one whose restart is a new container.
    """

    def __init__(self, directory: Path, columns: Sequence[Column]) -> None:
        self.directory = directory
        self.workspace = directory / "workspace"
        self.workspace.mkdir(mode=0o755)
        self.runtime = directory / "runtime"
        self.runtime.mkdir(mode=0o700)
        for name in ("runtime", "data", "config"):
            os.environ[f"JUPYTER_{name.upper()}_DIR"] = str(directory / name)
        os.environ["JUPYTER_PATH"] = str(directory)
        # Not the user's own profile and history; a container has none of theirs either.
        os.environ["IPYTHONDIR"] = str(directory / "ipython")
        specs = directory / "kernels"
        for number, column in enumerate(columns):
            for recreate in (False, True):
                spec = specs / _spec_name(number, recreate)
                spec.mkdir(parents=True)
                (spec / "kernel.json").write_text(json.dumps(_kernelspec(column, recreate)))
        self._numbers = {column.name: n for n, column in enumerate(columns)}
        self.specs = KernelSpecManager(kernel_dirs=[str(specs)], ensure_native_kernel=False)
        for column in columns:
            try:
                self.specs.get_kernel_spec(self.kernel_name(column))
            except NoSuchKernel:
                raise ProvisionerMissingError(column.provisioner) from None
        self.stock = zmq.asyncio.Context()
        self.fine = zmq.asyncio.Context()
        self.fine.setsockopt(zmq.RECONNECT_IVL, 10)
        self.pools: dict[str, Pool] = {}  # by kernel name
        self._files = count()

    def kernel_name(self, column: Column, *, recreate: bool = False) -> str:
        return _spec_name(self._numbers[column.name], recreate)

    def manager(self, kernel_name: str, column: Column, *, fine: bool) -> AsyncKernelManager:
        return AsyncKernelManager(
            kernel_name=kernel_name,
            kernel_spec_manager=self.specs,
            connection_file=str(self.runtime / f"kernel-{next(self._files)}.json"),
            transport=column.transport,
            transport_encryption=column.encryption,
            context=self.fine if fine else self.stock,
        )

    async def settled(self) -> None:
        """Wait for what the last start left to be done: the pools are full again."""
        for pool in self.pools.values():
            await pool.settled()

    def close(self) -> None:
        self.stock.destroy(linger=0)
        self.fine.destroy(linger=0)


def _spec_name(number: int, recreate: bool) -> str:
    return f"column{number}{'-recreate' if recreate else ''}"


def _kernelspec(column: Column, recreate: bool) -> dict[str, Any]:
    config = dict(column.config)
    if recreate and column.provisioner == OURS:
        config["restart_mode"] = "recreate"
    return {
        "argv": column.argv,
        "display_name": column.name,
        "language": "python",
        "env": column.env,
        # Named even for the local one, so JUPYTER_DEFAULT_PROVISIONER_NAME changes nothing.
        "metadata": {
            "supported_encryption": ["curve"],
            "kernel_provisioner": {"provisioner_name": column.provisioner, "config": config},
        },
    }
