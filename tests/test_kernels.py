"""A kernel in a container does what a local one does."""

from __future__ import annotations

import pytest

from .conftest import IMAGE, StartKernel

pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    "stanza",
    [{}, {"image": IMAGE}, {"profile": "dev", "transport": "tcp"}],
    ids=["host", "image", "dev-tcp"],
)
async def test_variables_live_until_a_restart(start_kernel: StartKernel, stanza: dict[str, str]):
    kernel = await start_kernel(**stanza)
    assert await kernel.run("x = 20; x + 1") == "21"
    container = kernel.container_id
    await kernel.restart()
    assert "NameError" in await kernel.run("x")
    assert kernel.container_id == container
