"""Records that were lost, torn or edited by hand: the kernel is found, or refused, never harmed."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.store import RecordStore, leases, own_lease

from .conftest import WriteKernelspec
from .ends import until
from .guards import hasty_guard
from .orphans import Orphan, adopted, orphan_fixture, try_to_adopt  # noqa: F401 - a fixture
from .owners import Owner, StartOwner, start_owner_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.docker

# What the kernel's own connection file has besides.
NAMES = {"kernel_name": "contained", "jupyter_session": ""}
NONSENSE: list[Any] = [None, -17, "nonsense", "/", ["nonsense"], {"a": 1}, float("nan")]


def edited(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was changed, and the record with one field made nonsense, or taken away."""
    parts: list[tuple[str, ...]] = [(), ("connection_info",), ("container",)]
    for path in [*parts, ("container", "identity")]:
        for name in _part(record, path):
            for value in NONSENSE:
                changed = copy.deepcopy(record)
                _part(changed, path)[name] = value
                yield f"{'.'.join((*path, name))} = {value!r}", changed
            changed = copy.deepcopy(record)
            del _part(changed, path)[name]
            yield f"no {'.'.join((*path, name))}", changed


def _part(record: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        record = record[name]
    return record


async def test_nonsense_in_a_record_harms_nothing(orphan: Orphan) -> None:
    """F32: refused with one error, or adopted because the field did not matter."""
    outcomes: dict[str, list[str]] = {"adopted": [], "refused": []}
    for what, record in edited(orphan.record):
        orphan.write_record(record)
        try:
            async with adopted(orphan.kernel_id, adopt_only=True):
                pass
        except KernelNotAdoptable:
            outcomes["refused"].append(what)
        except Exception as exc:  # noqa: BLE001 - all of them are shown
            outcomes.setdefault(repr(exc), []).append(what)
        else:
            outcomes["adopted"].append(what)
    assert outcomes == {"adopted": outcomes["adopted"], "refused": outcomes["refused"]}
    assert outcomes["adopted"]
    assert outcomes["refused"]
    orphan.write_record(orphan.record)
    async with adopted(orphan.kernel_id):
        pass
    assert RecordStore().read(orphan.kernel_id) == orphan.record
    assert await orphan.say("print(x)") == "1\n"


@pytest.mark.parametrize(
    "content",
    [None, b"", b'{"kernel_id": "', b"[]", b"\xff", b'{"kernel_id": "another"}'],
    ids=["lost", "empty", "torn", "list", "bytes", "foreign"],
)
async def test_a_lost_record_is_rebuilt_by_the_next_start(
    orphan: Orphan, content: bytes | None
) -> None:
    """From the container's labels, and the key in the private directory."""
    orphan.record_file.unlink()
    if content is not None:
        orphan.record_file.write_bytes(content)
    async with adopted(orphan.kernel_id):
        assert RecordStore().read(orphan.kernel_id) == {
            **orphan.record,
            "connection_info": {**orphan.record["connection_info"], **NAMES},
            "owner": own_lease().id,
        }
    assert await orphan.say("print(x)") == "1\n"


async def test_a_lost_record_whose_key_is_lost_too_is_not_rebuilt(orphan: Orphan) -> None:
    """The container stays: somebody may want what is in it."""
    orphan.record_file.unlink()
    shutil.rmtree(orphan.directory)
    before = orphan.facts()
    with pytest.raises(KernelNotAdoptable, match="is lost, and so is the private directory"):
        await try_to_adopt(orphan.kernel_id)
    assert orphan.facts() == before
    assert before[orphan.container.id] == "running"


@pytest.fixture
def unrecorded(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> Iterator[tuple[Owner, dict[str, Any]]]:
    """A kept kernel's owner, and the record, which is lost while it lives."""
    kernelspec(on_server_exit="keep")
    with hasty_guard():
        owner = start_owner()
    record = RecordStore().read(owner.kernel_id)
    RecordStore().remove(owner.kernel_id)
    yield owner, record
    owner.container.remove(force=True)


async def test_a_lost_record_of_a_dead_owner_is_rebuilt_by_the_guard(
    unrecorded: tuple[Owner, dict[str, Any]],
) -> None:
    owner, record = unrecorded
    owner.die()
    await until(RecordStore().path(owner.kernel_id).exists)
    assert RecordStore().read(owner.kernel_id) == {
        "kernel_id": owner.kernel_id,
        "connection_info": {**record["connection_info"], **NAMES},
        "container": record["container"],
        "owner": record["owner"],
    }
    async with adopted(owner.kernel_id):
        pass
    orphan = Orphan(owner.kernel_id, owner.container, record)
    assert await orphan.say("print(x)") == "1\n"


async def test_the_guard_leaves_a_kept_container_whose_key_is_lost(
    unrecorded: tuple[Owner, dict[str, Any]],
) -> None:
    """All that it does has been done when it forgets the owner."""
    owner, record = unrecorded
    shutil.rmtree(record["container"]["directory"])
    owner.die()
    await until(lambda: record["owner"] not in leases(), 60)
    assert owner.container.status == "running"
    with pytest.raises(KernelNotAdoptable, match="is lost, and so is the private directory"):
        await try_to_adopt(owner.kernel_id)
