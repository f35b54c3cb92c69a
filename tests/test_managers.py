"""Every manager of jupyter_client's, blocking and async, starts kernels in containers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import (
    AsyncKernelManager,
    KernelManager,
    run_kernel,
    start_new_async_kernel,
    start_new_kernel,
)
from jupyter_client.multikernelmanager import AsyncMultiKernelManager, MultiKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from .conftest import StartKernel, WriteKernelspec

pytestmark = pytest.mark.docker


def printed(client: BlockingKernelClient, code: str) -> str:
    """What the code prints, by the blocking client."""
    parts: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            parts.append(message["content"]["text"])

    client.execute_interactive(code, timeout=30, output_hook=collect)
    return "".join(parts)


def reply_to(message_id: str, client: BlockingKernelClient) -> dict[str, Any]:
    while True:
        reply = client.get_shell_msg(timeout=30)
        if reply["parent_header"]["msg_id"] == message_id:
            return reply


def test_blocking_manager(kernelspec: WriteKernelspec, folder: Path):
    manager, client = start_new_kernel(kernel_name=kernelspec(), cwd=str(folder))
    try:
        assert printed(client, "x = 1; print(x)") == "1\n"
        assert manager.is_alive()
        manager.restart_kernel()
        client.wait_for_ready(timeout=30)
        assert printed(client, "print('x' in globals())") == "False\n"
        loop = client.execute("print('started', flush=True)\nwhile True: pass")
        while client.get_iopub_msg(timeout=30)["msg_type"] != "stream":
            pass
        manager.interrupt_kernel()
        assert reply_to(loop, client)["content"]["ename"] == "KeyboardInterrupt"
        client.stop_channels()
        manager.shutdown_kernel()
        assert not manager.is_alive()
    finally:
        manager.shutdown_kernel(now=True)


def test_blocking_manager_sees_a_death_between_two_calls(kernelspec: WriteKernelspec, folder: Path):
    """The loop of a blocking manager runs only during a call; the watcher does not need it."""
    manager, client = start_new_kernel(kernel_name=kernelspec(), cwd=str(folder))
    try:
        watch = manager.provisioner._container._watch.ended
        client.execute("import os; os._exit(3)")
        assert watch.result(timeout=30).code == 3
        assert not manager.is_alive()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_run_kernel(kernelspec: WriteKernelspec, folder: Path):
    with run_kernel(kernel_name=kernelspec(), cwd=str(folder)) as client:
        assert printed(client, "print(6 * 7)") == "42\n"


async def test_start_new_async_kernel(kernelspec: WriteKernelspec, folder: Path):
    manager, client = await start_new_async_kernel(kernel_name=kernelspec(), cwd=str(folder))
    reply = await client.execute_interactive("1 + 1", timeout=30, output_hook=lambda _: None)
    assert reply["content"]["status"] == "ok"
    client.stop_channels()
    await manager.shutdown_kernel()


def test_multi_kernel_manager(kernelspec: WriteKernelspec, folder: Path):
    managers = MultiKernelManager()
    kernel_ids = [
        managers.start_kernel(kernel_name=kernelspec(), cwd=str(folder)) for _ in range(2)
    ]
    assert [managers.is_alive(kernel_id) for kernel_id in kernel_ids] == [True, True]
    managers.restart_kernel(kernel_ids[0])
    managers.shutdown_kernel(kernel_ids[0])
    assert managers.list_kernel_ids() == [kernel_ids[1]]
    managers.shutdown_all(now=True)
    assert managers.list_kernel_ids() == []


@pytest.mark.parametrize("pending", [False, True], ids=["waiting", "pending"])
async def test_async_multi_kernel_manager(kernelspec: WriteKernelspec, folder: Path, pending: bool):
    managers = AsyncMultiKernelManager(use_pending_kernels=pending)
    kernel_ids = await asyncio.gather(
        *(managers.start_kernel(kernel_name=kernelspec(), cwd=str(folder)) for _ in range(2))
    )
    kernels = [managers.get_kernel(kernel_id) for kernel_id in kernel_ids]
    await asyncio.gather(*(kernel.ready for kernel in kernels))
    assert [await kernel.is_alive() for kernel in kernels] == [True, True]
    await managers.restart_kernel(kernel_ids[0])
    await kernels[0].ready
    assert await kernels[0].is_alive()
    await managers.shutdown_all()
    await asyncio.gather(*(kernel.ready for kernel in kernels))
    assert managers.list_kernel_ids() == []


async def test_pending_kernel_that_fails_says_so_by_its_future(
    kernelspec: WriteKernelspec, folder: Path
):
    managers = AsyncMultiKernelManager(use_pending_kernels=True)
    kernel_id = await managers.start_kernel(
        kernel_name=kernelspec(argv=["sh", "-c", "exit 3"]), cwd=str(folder)
    )
    with pytest.raises(RuntimeError, match="exit code 3"):
        await managers.get_kernel(kernel_id).ready
    await managers.shutdown_kernel(kernel_id)
    assert managers.list_kernel_ids() == []


async def test_kernelspec_that_names_no_provisioner_runs_in_a_container_by_default(
    kernelspec: WriteKernelspec,
    start_kernel: StartKernel,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "container-provisioner")
    KernelProvisionerFactory.clear_instance()  # it has read the variable, if there was one before
    try:
        kernel = await start_kernel(stanza=False)
        assert await kernel.run("import os; os.path.exists('/run/kernel')") == "True"
    finally:
        KernelProvisionerFactory.clear_instance()


@pytest.mark.parametrize(
    ("policy", "stanza", "encrypted"),
    [
        ("disabled", {}, False),
        ("auto", {}, True),
        ("required", {}, True),
        ("required", {"network": "bridge", "transport": "tcp"}, True),
    ],
    ids=["disabled", "auto", "required", "required-tcp"],
)
async def test_transport_encryption(
    start_kernel: StartKernel, policy: str, stanza: dict[str, str], encrypted: bool
):
    kernel = await start_kernel(manager={"transport_encryption": policy}, **stanza)
    keys = "import ipykernel; 'curve_secretkey' in ipykernel.get_connection_info(unpack=True)"
    assert await kernel.run(keys) == str(encrypted)
    assert ("curve_secretkey" in kernel.manager.get_connection_info()) == encrypted
    await kernel.restart()
    assert await kernel.run(keys) == str(encrypted)


async def test_encrypted_kernel_does_not_answer_a_client_without_keys(start_kernel: StartKernel):
    kernel = await start_kernel(manager={"transport_encryption": "required"})
    info = kernel.manager.get_connection_info()
    stranger = AsyncKernelManager()
    stranger.load_connection_info(
        {name: value for name, value in info.items() if not name.startswith("curve_")}
    )
    client = stranger.client()
    client.start_channels(hb=False)
    client.kernel_info()
    try:
        with pytest.raises(Empty):
            await client.get_shell_msg(timeout=1)
    finally:
        client.stop_channels()


async def test_encryption_that_the_kernelspec_does_not_declare_is_refused(
    kernelspec: WriteKernelspec, folder: Path
):
    name = kernelspec(
        spec={
            "metadata": {
                "kernel_provisioner": {"provisioner_name": "container-provisioner", "config": {}}
            }
        }
    )
    manager = KernelManager(kernel_name=name, transport_encryption="required")
    with pytest.raises(RuntimeError, match="supported_encryption"):
        manager.start_kernel(cwd=str(folder))
