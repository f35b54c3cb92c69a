"""Kernelspecs out of images that their author has made to do harm, or merely oddly."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import stat
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpecManager

from container_provisioner.engine.find import open_engine
from container_provisioner.errors import ConfigurationError, EngineError
from container_provisioner.kernelspecs import (
    Kernelspec,
    draft,
    for_every_jupyter,
    host_kernelspec,
    image_kernelspecs,
)
from container_provisioner.kernelspecs.archives import ARCHIVE_BYTES, FILE_BYTES, read_archive
from container_provisioner.kernelspecs.drafts import image_word
from container_provisioner.kernelspecs.kernelspec import Resource, read_fields
from container_provisioner.kernelspecs.writing import Staging

from .conftest import IPYKERNEL, WriteKernelspec

SPEC: dict[str, Any] = {
    "argv": ["kernel", "{connection_file}"],
    "display_name": "K",
    "language": "",
}
KERNELS = "usr/local/share/jupyter/kernels"


class Tree:
    """A tar archive in the making."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115

    def file(self, name: str, content: bytes | dict[str, Any] = b"", **header: Any) -> Tree:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        member = tarfile.TarInfo(name)
        member.size = len(body)
        for field, value in header.items():
            setattr(member, field, value)
        self._tar.addfile(member, io.BytesIO(body))
        return self

    def link(self, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Tree:
        return self.file(name, type=kind, linkname=target)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


# -- in an engine ------------------------------------------------------------------------------

Find = Callable[..., list[Kernelspec]]


@pytest.fixture
def find(
    docker_client: docker.DockerClient, request: pytest.FixtureRequest, runtime_dir: Path
) -> Iterator[Find]:
    """The kernelspecs of an image that is made of a tree and variables."""
    made: list[str] = []

    def kernelspecs(tree: Tree, **variables: str) -> list[Kernelspec]:
        name = f"container-provisioner-test/odd:{abs(hash(request.node.name))}"
        made.append(name)
        docker_client.api.import_image_from_data(
            tree.bytes(), *name.split(":"), changes=[f"ENV {n}={v}" for n, v in variables.items()]
        )

        async def look() -> list[Kernelspec]:
            engine = await open_engine()
            info = await engine.inspect_image(name)
            return await image_kernelspecs(engine, info, logging.getLogger("jupyter"))

        return asyncio.run(look())

    yield kernelspecs
    for name in made:
        docker_client.images.remove(name, force=True)
    left = docker_client.containers.list(all=True, filters={"name": "image-lookup-"})
    assert [container for container in left if container.image.tags == made] == []


@pytest.mark.docker
def test_nothing_leads_out_of_an_image(
    find: Find, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Not by links, and no script that the browser would run is brought along."""
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o755)
    (mine / "kernel.json").write_text(json.dumps(SPEC))
    tree = Tree().file(f"{KERNELS}/good/kernel.json", SPEC)
    tree.file(f"{KERNELS}/good/logo.svg", b"<svg/>").file(f"{KERNELS}/good/kernel.js", b"alert(1)")
    tree.link(f"{KERNELS}/good/host", "/etc/hostname")
    tree.link(f"{KERNELS}/good/up", "../" * 20 + "etc/passwd")
    tree.file(f"{KERNELS}/good/large", b"\0" * (FILE_BYTES + 1))
    tree.file(f"{KERNELS}/a file", b"x").link(f"{KERNELS}/to-a-file", "a file")
    tree.link(f"{KERNELS}/host-folder", str(mine)).link(f"{KERNELS}/nowhere", "/no/such/folder")
    tree.link(f"{KERNELS}/loop", "loop")
    tree.file(f"{KERNELS}/no-json/kernel.json", b"{").file(f"{KERNELS}/a b/kernel.json", SPEC)
    assert find(tree) == [
        Kernelspec(
            name="good",
            fields=SPEC,
            folder=f"/{KERNELS}/good",
            resources={"logo.svg": Resource(content=b"<svg/>")},
        )
    ]
    left_out = sorted(message.partition(" of the image")[0] for message in caplog.messages)
    assert left_out == [
        f"The kernelspec in '/{KERNELS}/a b'",
        f"The kernelspec in '/{KERNELS}/loop'",
        f"The kernelspec in '/{KERNELS}/no-json'",
        f"The kernelspec in '/{KERNELS}/to-a-file'",
    ]


@pytest.mark.docker
def test_places_and_their_order(find: Find):
    """Where two have one name, it is the one that Jupyter in the image would take."""

    def spec(where: str) -> dict[str, Any]:
        return {**SPEC, "display_name": where}

    tree = Tree()
    for folder in ("named/kernels", "home/jo/.local/share/jupyter/kernels", KERNELS):
        tree.file(f"{folder}/everywhere/kernel.json", spec(folder))
        tree.file(f"{folder}/only-{folder.split('/')[0]}/kernel.json", spec(folder))
    tree.file("store/x/kernel.json", spec("linked")).link("env/share/jupyter/kernels/l", "/store/x")
    found = find(
        tree, JUPYTER_PATH="/named:relative", HOME="/home/jo", PATH="/env/bin:/bin", VIRTUAL_ENV=""
    )
    assert {each.name: each.display_name for each in found} == {
        "everywhere": "named/kernels",
        "l": "linked",
        "only-home": "home/jo/.local/share/jupyter/kernels",
        "only-named": "named/kernels",
        "only-usr": KERNELS,
    }


@pytest.mark.docker
def test_what_jupyter_in_the_image_would_fill_in(find: Find, monkeypatch: pytest.MonkeyPatch):
    """F8, F9: a bare ``python`` is the one beside the kernelspec; variables are the image's."""
    monkeypatch.setenv("SERVER_SECRET", "which is nobody's business")
    fields = {
        **SPEC,
        "argv": ["python3", "{prefix}/x", "{resource_dir}/y", "{connection_file}", "{other}"],
        "env": {"A": "${IN_IMAGE} ${SERVER_SECRET} $$ 5$"},
    }
    tree = Tree().file("env/share/jupyter/kernels/k/kernel.json", fields)
    tree.file("env/bin/python3.9").link("env/bin/python3", "python3.9")
    tree.file("usr/bin/python3")
    for name in ("python", "python3"):  # without one beside them
        tree.file(f"{KERNELS}/{name}/kernel.json", {**SPEC, "argv": [name]})
    found, *others = find(tree, IN_IMAGE="yes", PATH="/usr/bin:/env/bin")
    assert found.fields["argv"] == [
        *("/env/bin/python3", "/env/x", "/env/share/jupyter/kernels/k/y"),
        *("{connection_file}", "{other}"),
    ]
    assert found.fields["env"] == {"A": "yes $${SERVER_SECRET} $$ 5$$"}
    assert [each.fields["argv"] for each in others] == [["/usr/bin/python3"], ["python3"]]


@pytest.mark.docker
@pytest.mark.parametrize("where", ["site-packages", "dist-packages"])
def test_ipykernel_alone_is_enough(find: Find, where: str):
    """Where no kernelspec is: the interpreter that has it, of the two on PATH."""
    packages = f"env/lib/python3.9/{where}"
    tree = Tree().file("usr/bin/python3.11").link("usr/bin/python3", "python3.11")
    tree.file("opt/python3.9").link("env/bin/python3", "/opt/python3.9")
    tree.file(f"{packages}/ipykernel_launcher.py").file(f"{packages}/ipykernel/kernelspec.py")
    (found,) = find(tree, PATH="/usr/bin:/env/bin")
    assert found.fields["argv"][0] == "/env/bin/python3"
    assert found.fields["metadata"] == {"debugger": True}


@pytest.mark.docker
def test_an_image_that_is_all_kernelspecs(find: Find):
    """It is read no further than the bound, and the container can be removed."""
    tree = Tree()
    for number in range(ARCHIVE_BYTES // FILE_BYTES + 2):
        tree.file(f"{KERNELS}/k/{number}", b"\1" * FILE_BYTES)
    with pytest.raises(EngineError, match=r"is larger than \d+ bytes and was not read"):
        find(tree)


# -- archives ----------------------------------------------------------------------------------


def test_members_that_are_no_files_of_the_folder():
    tree = Tree().file("ok/a", b"a", mode=0o755).link("ok/same", "ok/a", tarfile.LNKTYPE)
    tree.file("/etc/absolute").file("../up").file("ok/../../up").file("odd\nname")
    tree.link("ok/l", "/etc/passwd").link("ok/hard", "/etc/passwd", tarfile.LNKTYPE)
    tree.file("ok/fifo", type=tarfile.FIFOTYPE).file("ok/disk", type=tarfile.BLKTYPE)
    files, links = read_archive(tree.bytes())
    program = Resource(content=b"a", executable=True)
    assert files["ok/a"] == program
    assert (files.keys(), files["ok/same"].content) == ({"ok/a", "ok/same"}, b"a")
    assert links == {"ok/l": "/etc/passwd"}


def test_links_in_a_circle_end():
    tree = Tree().link("a", "b").link("b", "a").link("c", "b", tarfile.LNKTYPE)
    assert read_archive(tree.bytes()) == ({}, {"a": "b", "b": "a"})


def test_a_small_archive_of_much():
    """Many names for one content, and a content that is all hole."""
    tree = Tree().file("first", b"\0" * FILE_BYTES)
    for number in range(100):
        tree.link(f"again-{number}", "first", tarfile.LNKTYPE)
    with pytest.raises(EngineError, match="not read"):
        read_archive(tree.bytes())
    many = Tree()
    for number in range(3000):
        many.file(str(number))
    with pytest.raises(EngineError, match="not read"):
        read_archive(many.bytes())
    sparse = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(FILE_BYTES)}
    assert read_archive(Tree().file("hole", pax_headers=sparse).bytes()) == ({}, {})


@given(st.binary(max_size=2000))
def test_what_is_no_archive(content: bytes):
    try:
        read_archive(content)
    except EngineError as exc:
        assert "cannot be read" in str(exc)  # noqa: PT017


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "argv"),
        (json.dumps({**SPEC, "argv": []}).encode(), "argv"),
        (json.dumps({**SPEC, "argv": ["a", 1]}).encode(), "argv"),
        (json.dumps({**SPEC, "metadata": []}).encode(), "metadata"),
        (json.dumps({**SPEC, "display_name": 1}).encode(), "display_name"),
        (json.dumps({**SPEC, "env": {"A": 1}}).encode(), "env"),
        (json.dumps({**SPEC, "interrupt_mode": "hope"}).encode(), "interrupt_mode"),
    ],
)
def test_a_kernel_json_that_makes_no_sense(text: bytes, words: str):
    with pytest.raises(ValueError, match=words):
        read_fields(text)


def test_fields_that_jupyter_stumbles_over_are_dropped():
    assert read_fields(json.dumps({**SPEC, "resource_dir": "/x", "new": 1}).encode()) == SPEC


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("python", "python"),
        ("quay.io/jupyter/scipy-notebook:latest", "scipy-notebook"),
        ("localhost:5000/lab/r:4.2", "r-4.2"),
        ("lab/r@sha256:0123456789abcdef", "r-0123456789ab"),
        ("lab/r:4@sha256:0123456789abcdef", "r-4"),
        ("sha256:0123456789abcdef", "sha256-0123456789abcdef"),
    ],
)
def test_an_images_name_in_a_kernelspecs(image: str, name: str):
    assert image_word(image) == name


def test_a_title_cannot_play_tricks():
    spec = Kernelspec(name="k", fields={**SPEC, "display_name": "a\x1b[2J\nb\ud800"})
    made = draft(spec, config={})
    assert (made.name, made.display_name) == ("k-container", "a[2Jb in a container")
    with pytest.raises(ConfigurationError, match="cannot be a kernelspec's name"):
        draft(spec, config={}, name="../k")


def test_a_host_kernelspec_keeps_its_programs(kernelspec: WriteKernelspec, runtime_dir: Path):
    """And for other environments' Jupyters it spells out which Python it means."""
    kernelspec("mine", stanza=False)
    script = runtime_dir.parent / "path" / "kernels" / "mine" / "bin" / "start"
    script.parent.mkdir()
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o755)
    spec = host_kernelspec(KernelSpecManager(), "mine")
    made = draft(for_every_jupyter(spec), config={"memory_limit": "1g"})
    assert made.fields["argv"] == [sys.executable, *IPYKERNEL[1:]]
    kernels = runtime_dir.parent / "kernels"
    with Staging(kernels) as staging:
        placed = staging.place(made, replace=False)
    assert os.access(placed / "bin" / "start", os.X_OK)
    assert not os.access(placed / "kernel.json", os.X_OK)
    assert stat.S_IMODE(placed.stat().st_mode) == 0o777 & ~umask()


def umask() -> int:
    now = os.umask(0o022)
    os.umask(now)
    return now


# -- writing -----------------------------------------------------------------------------------


def test_a_reader_sees_a_whole_kernelspec_or_none(tmp_path: Path):
    kernels = tmp_path / "kernels"
    versions = [
        draft(
            Kernelspec(
                name="k",
                fields={**SPEC, "display_name": str(number)},
                resources={f"{i}/logo": Resource(content=b"%d" % number) for i in range(20)},
            ),
            config={},
            name="k",
        )
        for number in range(2)
    ]
    seen: set[frozenset[str]] = set()
    listed: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            listed.update(path.name for path in kernels.iterdir())
            try:
                opened = os.open(kernels / "k", os.O_RDONLY)
            except FileNotFoundError:
                continue
            below = os.fwalk(".", dir_fd=opened)  # whatever its name is by now
            seen.add(frozenset(f"{at}/{name}" for at, _, files, _ in below for name in files))
            os.close(opened)

    reader = threading.Thread(target=read)
    with Staging(kernels) as staging:
        staging.place(versions[0], replace=False)
        reader.start()
        for turn in range(60):
            staging.place(versions[turn % 2], replace=True)
        done.set()
        reader.join()
        with pytest.raises(ConfigurationError, match="Nothing was changed"):
            staging.place(versions[0], replace=False)
    assert seen == {frozenset({"./kernel.json", *(f"./{i}/logo" for i in range(20))})}
    assert listed == {"k"}
    assert versions[1].is_in(kernels / "k")
    assert [path.name for path in tmp_path.iterdir()] == ["kernels"]
