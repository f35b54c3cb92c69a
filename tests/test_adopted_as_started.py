"""The test of a kernel's subshells, on kernels that a second process has taken over."""

from __future__ import annotations

import pytest

from .conftest import Kernel, WriteKernelspec
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .successor import Successor, successor_fixture  # noqa: F401 - a fixture

# It runs here another time: `kernel` below is another one.
from .test_messages import (  # noqa: F401
    IPC,
    TCP,
    test_two_subshells_run_while_the_main_shell_is_busy,
)

pytestmark = pytest.mark.docker


@pytest.fixture(params=[IPC, TCP], ids=["ipc", "tcp"])
async def kernel(
    request: pytest.FixtureRequest,
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    successor: Successor,
) -> Kernel:
    kernelspec(**request.param, on_server_exit="keep")
    owner = start_owner()
    owner.die()
    adopted = await successor.adopt(owner.kernel_id)
    await adopted.ready()
    assert await adopted.run("x") == "1"
    return adopted
