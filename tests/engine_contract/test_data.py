"""What goes in and comes out: lists, files, events, images, whoever the engine is."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from container_provisioner import labels
from container_provisioner.engine.base import (
    ContainerEngine,
    Event,
    EventStream,
    OutputStream,
    Usage,
)
from container_provisioner.engine.podman import PodmanEngine
from container_provisioner.errors import (
    ArchiveTooLarge,
    ContainerGone,
    EngineError,
    ImageMissing,
    PullFailed,
)
from container_provisioner.spec import ContainerSpec, Limits, Mount, Tmpfs

from .conftest import Make, archive, downloaded, ended, remove_without_volumes, shell, wait

# -- lists -------------------------------------------------------------------------------------


def test_containers_are_found_by_label_ended_ones_too(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    runs = create(spec)
    engine.start(runs)
    other_labels = {**spec.labels, labels.LAUNCH_ID: "other"}
    other = create(shell(spec, "exit 3", name=f"{spec.name}-2", labels=other_labels))
    engine.start(other)
    ended(engine, other)

    def found(wanted: dict[str, str | None]) -> dict[str, tuple[str, str]]:
        return {c.id: (c.name, c.state) for c in engine.list_containers(wanted)}

    expected = {runs: (spec.name, "running"), other: (f"{spec.name}-2", "exited")}
    assert found(dict(spec.labels)) == expected
    assert expected.items() <= found({labels.KERNEL_ID: None}).items()
    assert found(dict(other_labels)) == {other: expected[other]}
    assert found({labels.KERNEL_ID: "nobody's"}) == {}
    (listed,) = engine.list_containers(dict(other_labels))
    assert (listed.exit_code, listed.image, listed.network) == (3, spec.image, spec.network)


def test_an_inspection_says_what_was_asked_for(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, tmp_path: Path
):
    limits = Limits(memory=64 * 2**20, cpus=0.5, pids=20, shm_size=2**20)
    mounts = (Mount(source=str(tmp_path), target="/mnt"),)
    found = engine.inspect(create(replace(spec, limits=limits, mounts=mounts, network="none")))
    assert found.image == spec.image
    assert (found.user, found.network, found.read_only) == (spec.user, "none", spec.read_only)
    assert (found.limits, found.mounts) == (limits, mounts)
    assert abs(found.created - time.time()) < 60


# -- files -------------------------------------------------------------------------------------


def owner(engine: ContainerEngine, container: str, path: str) -> str:
    execution = engine.execute(container, ("sh", "-c", f"read go; stat -c '%u %g %a' {path}"))
    execution.send(b"go\n")
    return b"".join(execution).decode()


SCRATCH = (Tmpfs(target="/scratch", size=2**20),)


@pytest.mark.parametrize(
    ("folder", "running"),
    [("/", False), ("/", True), ("/scratch", True)],
    ids=["before-start", "running", "tmpfs"],
)
def test_an_upload_keeps_owner_and_mode(
    engine: ContainerEngine, spec: ContainerSpec, create: Make, folder: str, running: bool
):
    """F38: owners are those of the archive, into a tmpfs of a running container too."""
    container = create(replace(spec, read_only=False, tmpfs=SCRATCH))
    if running:
        engine.start(container)
    engine.upload(container, folder, archive("file"))
    path = f"{folder.rstrip('/')}/file"
    if isinstance(engine, PodmanEngine):
        engine.start(container)
        assert owner(engine, container, path) == "4242 4343 600\n"
        # What comes out is the container's user's.
        assert downloaded(engine, container, path) == (65534, 65534, 0o600, b"content")
    else:
        assert downloaded(engine, container, path) == (4242, 4343, 0o600, b"content")
    with pytest.raises(ContainerGone):
        engine.download(container, "/no/such/file")
    with pytest.raises(ArchiveTooLarge, match=path):
        engine.download(container, path, 100)
    assert len(engine.download(container, path, 2**20)) <= 2**20


def test_a_volume_takes_an_upload_below_a_read_only_root(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    """F38: before the start too, and again while it runs. This is how a kernel on another host
    gets its files."""
    container = create(replace(spec, volumes=("/volume",)))
    for start in (None, engine.start):
        if start is not None:
            start(container)
        engine.upload(container, "/volume", archive("file"))
        *owner, mode, content = downloaded(engine, container, "/volume/file")
        assert (mode, content) == (0o600, b"content")
        assert owner in ([4242, 4343], [65534, 65534])  # the latter is the container's user


def test_a_volume_goes_with_its_container(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    """Or stays unused, when the container was removed by somebody who does not know of it."""
    create(replace(spec, volumes=("/volume",)))
    assert engine.unused_volumes(spec.labels) == []
    engine.remove(spec.name)
    assert engine.unused_volumes(spec.labels) == []
    if isinstance(engine, PodmanEngine):
        return  # it puts no labels on them
    create(replace(spec, volumes=("/volume",)))
    remove_without_volumes(engine, spec.name)
    (volume,) = engine.unused_volumes(spec.labels)
    assert engine.unused_volumes({labels.KERNEL_ID: "another"}) == []
    assert engine.remove_volume(volume) is True
    assert engine.unused_volumes(spec.labels) == []
    assert engine.remove_volume(volume) is True


def test_an_upload_is_refused_where_it_would_be_lost(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    """F38: a tmpfs is there only while the container runs, and never below a read-only root.

    This is why the kernel's files come by a mount, and only a writable root's home by upload.
    """
    writable = create(replace(spec, read_only=False, tmpfs=SCRATCH))
    if isinstance(engine, PodmanEngine):
        # Nothing is lost: what is below a tmpfs is copied into it when the container starts.
        engine.upload(writable, "/scratch", archive("file"))
        engine.start(writable)
        assert downloaded(engine, writable, "/scratch/file")[3] == b"content"
        return
    with pytest.raises(ContainerGone, match="/scratch"):
        engine.upload(writable, "/scratch", archive("file"))
    read_only = create(replace(spec, name=f"{spec.name}-ro", tmpfs=SCRATCH))
    for prepare, folder in ((None, "/"), (engine.start, "/"), (None, "/scratch")):
        if prepare is not None:
            prepare(read_only)
        with pytest.raises(EngineError, match="marked read-only"):
            engine.upload(read_only, folder, archive("file"))


# -- events ------------------------------------------------------------------------------------


class Listener:
    """Collects a stream's events in a thread, until the stream ends."""

    def __init__(self, stream: EventStream) -> None:
        self.seen: list[Event] = []
        self.thread = threading.Thread(target=self._collect, args=(stream,))
        self.thread.start()

    def _collect(self, stream: EventStream) -> None:
        for event in stream:
            self.seen.append(event)

    def of(self, container: str) -> list[str]:
        return [event.action for event in self.seen if event.container_id == container]


def test_events_tell_the_end_and_the_removal_of_our_containers(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    stream = engine.events(int(time.time()))
    listener = Listener(stream)
    foreign = create(shell(spec, "exit 0", name=f"{spec.name}-foreign", labels={}))
    engine.start(foreign)
    ended(engine, foreign)
    ours = create(shell(spec, "exit 3"))
    engine.start(ours)
    wait(lambda: listener.of(ours) == ["die"])
    engine.remove(ours)
    wait(lambda: listener.of(ours) == ["die", "destroy"])
    assert listener.of(foreign) == []
    stream.close()  # from another thread than the one that reads
    listener.thread.join(20)
    assert not listener.thread.is_alive()
    stream.close()


def test_events_since_a_time_include_those_that_were_missed(
    engine: ContainerEngine, spec: ContainerSpec, run: Make
):
    before = int(time.time())
    container = run(shell(spec, "exit 3"))
    ended(engine, container)
    stream = engine.events(before)
    listener = Listener(stream)
    wait(lambda: listener.of(container) == ["die"])
    stream.close()
    listener.thread.join(20)
    assert not listener.thread.is_alive()


# -- what it uses ------------------------------------------------------------------------------


def test_what_a_container_uses_is_measured_while_it_runs(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    limit = 128 * 2**20
    script = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo ready; sleep 300; echo $x"
    container = create(shell(spec, script, limits=Limits(memory=limit)))
    assert engine.usage(container) == Usage()
    engine.start(container)
    wait(lambda: engine.logs(container, 5) == "ready\n")
    for name in (container, spec.name):
        usage = engine.usage(name)
        assert 2**20 < usage.memory <= limit
        assert usage.memory_limit == limit
        assert usage.pids >= 1
        assert abs(time.time() - usage.at) < 60
    engine.signal(container, signal.SIGKILL)
    ended(engine, container)
    assert engine.usage(container) == Usage()
    engine.remove(container)
    for gone in (container, spec.name, "never-there"):
        with pytest.raises(ContainerGone):
            engine.usage(gone)


def test_processor_time_adds_up(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    busy = run(shell(spec, "while :; do :; done"))
    before = engine.usage(busy)
    wait(lambda: engine.usage(busy).cpu_seconds > before.cpu_seconds + 0.1)
    after = engine.usage(busy)
    assert 0 < after.cpu_seconds - before.cpu_seconds <= 2 * (after.at - before.at)


# -- output ------------------------------------------------------------------------------------


def written(stream: OutputStream) -> tuple[bytes, bytes]:
    """All of it, to standard output and to standard error."""
    pieces = list(stream)
    out, errors = ([p.data for p in pieces if p.is_error is kind] for kind in (False, True))
    return b"".join(out), b"".join(errors)


def test_output_is_told_apart_by_stream(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    container = run(shell(spec, "echo error >&2; sleep 0.1; echo out; echo x; printf 'no end'"))
    ended(engine, container)
    everything = (b"out\nx\nno end", b"error\n")
    assert written(engine.output(container, None, False)) == everything
    assert written(engine.output(container, None, True)) == everything  # it can write no more
    assert written(engine.output(container, 1, False))[0] == b"no end"
    engine.remove(container)
    with pytest.raises(ContainerGone):
        engine.output(container, None, False)


def test_output_is_followed_to_the_end(engine: ContainerEngine, spec: ContainerSpec, run: Make):
    container = run(
        shell(spec, "echo before; trap 'echo after >&2; exit 0' TERM; sleep 300 & wait")
    )
    wait(lambda: engine.logs(container, 5))
    stream = engine.output(container, None, True)
    seen = []
    for piece in stream:
        seen.append(piece)
        if piece.data == b"before\n":
            engine.signal(container, signal.SIGTERM)
    said = [(piece.data, piece.is_error) for piece in seen]
    assert (b"before\n", False) in said
    assert (b"after\n", True) in said


def test_following_can_be_ended_from_another_thread(
    engine: ContainerEngine, spec: ContainerSpec, run: Make
):
    container = run(shell(spec, "echo one; sleep 300"))
    wait(lambda: engine.logs(container, 5))
    stream = engine.output(container, None, True)
    first = threading.Event()
    thread = threading.Thread(target=lambda: [first.set() for _ in stream])
    thread.start()
    assert first.wait(20)
    stream.close()
    thread.join(20)
    assert not thread.is_alive()
    stream.close()


# -- images ------------------------------------------------------------------------------------


def test_an_imported_image_can_be_used_and_removed(
    engine: ContainerEngine, spec: ContainerSpec, create: Make
):
    image = f"container-provisioner-test/imported:{spec.name}"
    with pytest.raises(ImageMissing, match=image):
        engine.inspect_image(image)
    engine.remove_image(image)
    engine.import_image(image, archive("file"), {"made-by": "this test", "of": spec.name})
    try:
        assert engine.inspect_image(image).user == ""
        (listed,) = engine.list_images({"made-by": None, "of": spec.name})
        assert (listed.id, listed.names) == (engine.inspect_image(image).id, (image,))
        assert listed.size > 0
        assert engine.list_images({"made-by": "another"}) == []
        container = create(replace(spec, image=image))
        engine.remove_image(image)  # quiet, whether or not it is in use
        engine.remove(container)
    finally:
        engine.remove_image(image)
    with pytest.raises(ImageMissing):
        engine.inspect_image(image)


def test_a_pull_that_finds_no_registry_names_the_image(engine: ContainerEngine):
    image = "127.0.0.1:9/no-such-registry:1"
    with pytest.raises(PullFailed, match=image):
        engine.pull(image, lambda line: None)
