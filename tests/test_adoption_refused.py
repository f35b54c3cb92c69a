"""What is not certainly the kernel is refused with one error, and stays as it is."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from jupyter_client.manager import AsyncKernelManager

from container_provisioner import greeting, labels
from container_provisioner.errors import ContainerProvisionerError, KernelNotAdoptable
from container_provisioner.store import KernelDirectory, RecordStore, place_id

from .conftest import PLAIN_IMAGE, StartKernel, WriteKernelspec, own_jupyter, write_kernelspec
from .ends import left_below, until
from .orphans import Orphan, orphan_fixture, try_to_adopt  # noqa: F401 - a fixture
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker


async def assert_refused(orphan: Orphan, why: str, **launch: Any) -> None:
    """With that error; nothing is changed, removed or left running by it."""
    before = orphan.facts()
    with pytest.raises(KernelNotAdoptable, match=why):
        await try_to_adopt(orphan.kernel_id, **launch)
    assert orphan.facts() == before
    assert await orphan.say("print(x)") == "1\n"


async def test_a_kernel_whose_owner_lives_is_its_owners(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> None:
    """F32: another process of the same user, with the same runtime directory."""
    kernelspec(on_server_exit="keep")
    owner = start_owner()
    kernel = Orphan(owner.kernel_id, owner.container, RecordStore().read(owner.kernel_id))
    await assert_refused(kernel, f"belongs to process {owner.process.pid}.* still runs")
    await assert_refused(kernel, "still runs", adopt_only=True)
    owner.die()
    owner.container.remove(force=True)


async def test_a_kernel_of_this_process_has_one_manager(
    start_kernel: StartKernel, runtime_dir: Path
) -> None:
    """F3, F32: not its sockets, not its files, and not at the clean-up either."""
    kernel = await start_kernel(manager={"connection_file": str(runtime_dir / "kernel-7.json")})
    kernel_id = kernel.provisioner.kernel_id
    record = RecordStore().read(kernel_id)
    second = AsyncKernelManager(
        kernel_name=kernel.manager.kernel_name,
        kernel_id=kernel_id,
        connection_file=kernel.manager.connection_file,
    )
    with pytest.raises(KernelNotAdoptable, match="another manager of this process has it"):
        await second.start_kernel()
    await second.cleanup_resources()
    assert second.provisioner is not None
    await second.provisioner.cleanup()
    assert RecordStore().read(kernel_id) == record
    client = AsyncKernelManager(connection_file=kernel.manager.connection_file)
    client.load_connection_file()
    assert client.session.key == kernel.manager.session.key
    kernel.reconnect()
    await kernel.ready()
    assert await kernel.run("1 + 1") == "2"


@pytest.mark.parametrize("launch", [{}, {"adopt_only": True}], ids=["start", "adopt-only"])
async def test_one_of_two_containers_of_a_kernel_is_not_chosen(
    orphan: Orphan, docker_client: docker.DockerClient, launch: dict[str, Any]
) -> None:
    """F32: the label stands on both."""
    double = docker_client.containers.run(
        PLAIN_IMAGE, ["sleep", "600"], labels={labels.KERNEL_ID: orphan.kernel_id}, detach=True
    )
    try:
        await assert_refused(orphan, f"Several containers .*{double.id[:12]}", **launch)
    finally:
        double.remove(force=True)


def another_container(record: dict[str, Any], directory: Path) -> None:
    record["container"]["identity"]["container_id"] = "0" * 64


def another_launch(record: dict[str, Any], directory: Path) -> None:
    record["container"]["identity"]["launch_id"] = "0" * 32


def another_key(record: dict[str, Any], directory: Path) -> None:
    record["connection_info"]["key"] = "another"


def no_connection_file(record: dict[str, Any], directory: Path) -> None:
    (directory / "connection.json").unlink()


def torn_connection_file(record: dict[str, Any], directory: Path) -> None:
    (directory / "connection.json").write_text('{"key": "')


def a_connection_file_with_another_key(record: dict[str, Any], directory: Path) -> None:
    file = directory / "connection.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "key": "another"}))


def a_start_under_way(record: dict[str, Any], directory: Path) -> None:
    KernelDirectory(directory).mark("0" * 16, "starting")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (another_container, "is not the one in the kernel's record"),
        (another_launch, "is not the one in the kernel's record"),
        (another_key, "key is not the one that the kernel was given"),
        (no_connection_file, "key is not the one that the kernel was given"),
        (torn_connection_file, "key is not the one that the kernel was given"),
        (a_connection_file_with_another_key, "key is not the one that the kernel was given"),
        (a_start_under_way, "never finished"),
    ],
)
async def test_a_record_that_is_not_the_containers_is_refused(
    orphan: Orphan, spoil: Callable[[dict[str, Any], Path], None], why: str
) -> None:
    """F32: container, launch and key have to be those of the record."""
    record = copy.deepcopy(orphan.record)
    spoil(record, orphan.directory)
    orphan.write_record(record)
    await assert_refused(orphan, why)


async def test_a_kernel_of_another_runtime_directory_is_not_ours(orphan: Orphan) -> None:
    """F32: the same user, engine and kernel id; even with a copy of the record."""
    before, record = orphan.facts(), orphan.record_file.read_bytes()
    with own_jupyter() as elsewhere:
        write_kernelspec(elsewhere, on_server_exit="keep")
        for copied in (b"", record):
            if copied:
                orphan.record_file.parent.mkdir(exist_ok=True)
                orphan.record_file.write_bytes(copied)
            with pytest.raises(KernelNotAdoptable, match="another runtime directory"):
                await try_to_adopt(orphan.kernel_id)
            assert left_below(elsewhere) == ([orphan.record_file] if copied else [])
    assert orphan.facts() == before
    assert await orphan.say("print(x)") == "1\n"


@pytest.mark.parametrize(
    ("label", "value", "why"),
    [
        (labels.OWNER_UID, "4242", "belongs to another user"),
        (labels.PLACE, "0" * 16, "another runtime directory"),
        (labels.KERNEL_ID, "another", "is not this kernel's"),
        (labels.RECORD, "{}", "do not describe a kernel"),
        (labels.RECORD, "[" * 10**5, "do not describe a kernel"),
    ],
    ids=["uid", "place", "kernel-id", "record", "nested-record"],
)
async def test_a_container_with_the_kernels_name_is_not_yet_the_kernel(
    kernelspec: WriteKernelspec,
    docker_client: docker.DockerClient,
    runtime_dir: Path,
    label: str,
    value: str,
    why: str,
) -> None:
    """F32: there is no record, and the labels are somebody else's, or nonsense."""
    kernelspec()
    ours = {
        labels.KERNEL_ID: "impostor",
        labels.OWNER_UID: str(os.getuid()),
        labels.PLACE: place_id(),
    }
    impostor = docker_client.containers.run(
        PLAIN_IMAGE,
        ["sleep", "600"],
        name=labels.container_name("impostor"),
        labels={**ours, label: value},
        detach=True,
    )
    try:
        with pytest.raises(ContainerProvisionerError, match=why):
            await try_to_adopt("impostor")
        impostor.reload()
        assert impostor.status == "running"
        assert left_below(runtime_dir) == []
    finally:
        impostor.remove(force=True)


FREEZE = """
import os, signal, threading
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGSTOP)).start()
"""
STATES = "-o pid,state"


async def test_a_kernel_that_does_not_answer_is_refused(
    orphan: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F32: it runs, and nobody can tell whether it is the one with the key."""
    monkeypatch.setattr(greeting, "ANSWER_SECONDS", 1.0)
    await orphan.say(FREEZE)
    await until(
        lambda: any("T" in row[1] for row in orphan.container.top(ps_args=STATES)["Processes"])
    )
    before = orphan.facts()
    with pytest.raises(KernelNotAdoptable, match="neither a signed request nor a heartbeat"):
        await try_to_adopt(orphan.kernel_id)
    assert orphan.facts() == before
    orphan.container.kill("SIGCONT")
    assert await orphan.say("print(x)") == "1\n"


async def test_only_to_adopt_starts_nothing(
    kernelspec: WriteKernelspec, our_containers: Callable[[], list[str]], runtime_dir: Path
) -> None:
    kernelspec()
    with pytest.raises(KernelNotAdoptable, match="No container of this kernel runs"):
        await try_to_adopt("nobody", adopt_only=True)
    assert (our_containers(), left_below(runtime_dir)) == ([], [])
