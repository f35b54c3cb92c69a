"""Of all who want a container that waits, exactly one gets it."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from container_provisioner.store import Offer, Offers

from .conftest import own_jupyter

OFFER = Offer(
    digest="0123456789abcdef",
    name="jupyter-warm-000000000000",
    container_id="c" * 64,
    launch_id="l" * 32,
    since=5.5,
    memory=50_000_000,
    started_at="2026-01-01T00:00:00Z",
    addresses={"bridge": "172.17.0.2"},
    published=[(28501, "127.0.0.1", 49153)],
)
MANY = [replace(OFFER, name=f"jupyter-warm-{number:012x}", since=number) for number in range(50)]


@pytest.fixture(name="offers")
def offers_fixture() -> Iterator[Offers]:
    with own_jupyter():
        yield Offers()


def test_nothing_is_offered_where_nobody_keeps_a_pool(offers: Offers):
    assert not offers
    assert offers.all() == []
    assert not offers.take(OFFER)
    offers.withdraw(OFFER.digest, OFFER.name)
    assert not offers.folder.exists()


def test_what_is_offered_comes_back_whole_until_it_is_taken(offers: Offers):
    offers.put(OFFER)
    assert offers
    assert offers.has(OFFER)
    (found,) = offers.all()
    assert replace(found, published=[(28501, "127.0.0.1", 49153)]) == OFFER
    assert [tuple(port) for port in found.published] == OFFER.published
    assert offers.take(found)
    assert not offers.take(OFFER)
    assert not offers.has(OFFER)
    assert not offers


def test_the_oldest_of_a_specification_comes_first(offers: Offers):
    other = replace(OFFER, digest="f" * 16, since=0)
    for offer in (MANY[2], other, MANY[0], MANY[1]):
        offers.put(offer)
    assert [offer.since for offer in offers.all(OFFER.digest)] == [0, 1, 2]
    assert [offer.name for offer in offers.all("f" * 16)] == [other.name]
    assert len(offers.all()) == 4


def test_what_its_keeper_leaves_is_withdrawn(offers: Offers):
    offers.put(OFFER)
    offers.put(MANY[1])
    offers.withdraw(OFFER.digest, OFFER.name)
    assert [offer.name for offer in offers.all()] == [MANY[1].name]
    assert not offers.take(OFFER)


def test_nobody_else_can_read_or_make_one(offers: Offers):
    offers.put(OFFER)
    assert {oct(path.stat().st_mode) for path in offers.folder.iterdir()} == {"0o100600"}
    assert oct(offers.folder.stat().st_mode) == "0o40700"


@pytest.mark.parametrize(
    "content",
    [b"", b'{"digest": "0123', b"[]", b"null", b"\xff", b"{}", b'{"digest": "d", "new": 1}'],
    ids=["empty", "torn", "list", "null", "bytes", "fields", "version"],
)
def test_one_that_cannot_be_read_is_dropped(offers: Offers, content: bytes):
    offers.put(OFFER)
    offers.put(MANY[1])
    path = offers.folder / f"{OFFER.digest}.{OFFER.name}.json"
    path.write_bytes(content)
    assert [offer.name for offer in offers.all()] == [MANY[1].name]
    assert not path.exists()


def test_one_that_this_process_cannot_read_now_stays(
    offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server with very many pages: the container still waits, and others can have it."""
    offers.put(OFFER)

    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        assert offers.all() == []
    assert [offer.name for offer in offers.all()] == [OFFER.name]


def test_what_a_writer_has_not_finished_is_not_offered(offers: Offers):
    offers.folder.mkdir(parents=True)
    (offers.folder / ".new-abc").write_bytes(b"{")
    assert not offers
    assert offers.all() == []


TAKER = """
import sys
from container_provisioner.store import Offers
print("ready", flush=True)
sys.stdin.readline()
offers = Offers()
print(*(offer.name for offer in offers.all() if offers.take(offer)), flush=True)
"""


def test_processes_never_get_the_same_one(offers: Offers):
    for offer in MANY:
        offers.put(offer)
    command = [sys.executable, "-c", TAKER]
    pipe = subprocess.PIPE
    takers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    try:
        for taker in takers:
            assert taker.stdout is not None
            assert taker.stdout.readline() == "ready\n"
        for taker in takers:  # all at once, as far as there are cores
            assert taker.stdin is not None
            taker.stdin.write("\n")
            taker.stdin.flush()
        taken = [name for taker in takers for name in taker.communicate(timeout=60)[0].split()]
    finally:
        for taker in takers:
            taker.kill()
            taker.wait()
    assert sorted(taken) == [offer.name for offer in MANY]
    assert not offers


def test_threads_never_get_the_same_one(offers: Offers):
    for offer in MANY:
        offers.put(offer)
    taken: list[str] = []
    together = threading.Barrier(8)

    def take_all() -> None:
        found = Offers().all()
        together.wait()
        taken.extend(offer.name for offer in found if offers.take(offer))

    threads = [threading.Thread(target=take_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [offer.name for offer in MANY]
    assert list(Path(offers.folder).iterdir()) == []
