"""What a hostile container can send as an archive, and what becomes of it on this host."""

from __future__ import annotations

import asyncio
import importlib.metadata
import io
import os
import stat
import subprocess
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import container_provisioner
from container_provisioner.copying.packing import pack
from container_provisioner.copying.streams import feed
from container_provisioner.copying.transfer import Transfer
from container_provisioner.copying.unpacking import Copied, NoArchive, unpack
from container_provisioner.errors import CopyFailed

from .fake_execution import FakeExecution
from .other_pythons import SYSTEM_PYTHON


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=to)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return io.BytesIO(buffer.getvalue())


def tree(folder: Path) -> dict[str, str]:
    """Every path below: a file's content, where a link leads, or nothing of a directory."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_text() if path.is_file() else ""
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The destination, beside something that is no business of the archive's."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "theirs").write_text("theirs")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def nothing_outside(root: Path) -> Any:
    yield
    assert tree(root.parent / "outside") == {"theirs": "theirs"}
    assert {path.name for path in root.parent.iterdir()} == {"outside", "root"}


def test_a_directory(root: Path) -> None:
    sent = archive(directory("."), member("./a", b"1"), directory("./d"), link("./d/l", "../a"))
    assert unpack(sent, root, "top", is_directory=True) == Copied(files=2, size=1)
    assert tree(root) == {"top": "", "top/a": "1", "top/d": "", "top/d/l": "-> ../a"}
    assert unpack(archive(member("./b", b"2")), root / "top", "", is_directory=True).files == 1
    assert (root / "top" / "b").read_text() == "2"


def test_the_python_of_debian_12(root: Path) -> None:
    """3.11.2, whose own tarfile has no filter. Elsewhere the system's Python may have one."""
    backport = importlib.metadata.distribution("backports.tarfile").locate_file("")
    places = [str(Path(container_provisioner.__file__).parents[1]), str(backport)]
    code = (
        f"import io, sys; sys.path += {places!r}\n"
        "from pathlib import Path\n"
        "from container_provisioner.copying.unpacking import unpack\n"
        "sent, root = io.BytesIO(sys.stdin.buffer.read()), Path(sys.argv[1])\n"
        "print(unpack(sent, root, '', is_directory=True))"
    )
    sent = archive(directory("."), member("a", b"1"), link("out", "/etc"), link("in", "a"))
    command = [SYSTEM_PYTHON, "-c", code, str(root)]
    done = subprocess.run(command, input=sent.getvalue(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Copied(files=2, size=1, left_out=[\"'out' is left out" in done.stdout
    assert tree(root) == {"a": "1", "in": "-> a"}


def test_a_file_has_the_name_that_was_asked_for(root: Path) -> None:
    unpack(archive(member("../../outside/theirs", b"1")), root, "name", is_directory=False)
    assert tree(root) == {"name": "1"}


def test_what_is_there_is_replaced_and_not_written_through(root: Path) -> None:
    (root / "here").write_text("before")
    (root / "f").symlink_to("here")
    os.link(root.parent / "outside" / "theirs", root / "g")
    unpack(archive(member("f", b"1"), member("g", b"2")), root, "", is_directory=True)
    assert tree(root) == {"f": "1", "g": "2", "here": "before"}


LEADS_OUT = {
    "climbs": [member("../outside/theirs", b"x")],
    "climbs later": [member("d/../../outside/theirs", b"x")],
    "link": [link("l", "../../outside")],
    "absolute link": [link("l", "/etc/passwd")],
    "through a link": [link("l", "."), member("l/../../outside/theirs", b"x")],
    "device": [member("l", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "pipe": [member("l", type=tarfile.FIFOTYPE)],
    "hard link": [link("l", "../outside/theirs", tarfile.LNKTYPE)],
    "hard link to what is not there": [link("l", "no", tarfile.LNKTYPE)],
}


@pytest.mark.parametrize("members", LEADS_OUT.values(), ids=LEADS_OUT)
def test_what_leads_out_is_left_out(root: Path, members: list[Any]) -> None:
    """And the rest is there."""
    copied = unpack(archive(*members, member("ok", b"1")), root, "top", is_directory=True)
    assert len(copied.left_out) == 1
    assert repr(members[-1][0].name) in copied.left_out[0]
    assert (root / "top" / "ok").read_text() == "1"
    assert "x" not in tree(root).values()


def test_nothing_is_written_through_a_link_of_the_archive(root: Path) -> None:
    """Not even to where the link may lead: Pythons differ in how well they can tell that."""
    sent = archive(directory("d"), link("l", "d"), member("l/f", b"x"))
    assert len(unpack(sent, root, "", is_directory=True).left_out) == 1
    assert tree(root) == {"d": "", "l": "-> d"}


def test_links_that_together_lead_out(root: Path) -> None:
    """Each of them would not."""
    sent = archive(
        *(directory("a"), directory("a/b"), member("file", b"1")),
        *(link("a/b/up", "../.."), link("x", "a/b/up/../..")),
        *(link("a/b/f", "../../file"), link("moved", "a/b/f", tarfile.LNKTYPE)),
    )
    assert len(unpack(sent, root, "", is_directory=True).left_out) == 2
    assert tree(root) == {
        "a": "",
        "a/b": "",
        "file": "1",
        "a/b/up": "-> ../..",
        "a/b/f": "-> ../../file",
    }


def test_a_path_that_is_too_long_for_python_to_follow(root: Path) -> None:
    """CVE-2025-4517: through short links to long names."""
    steps, long = "abcdefghijklmnop", "d" * 247
    members, path = [], ""
    for step in steps:
        members += [directory(path + long), link(path + step, long)]
        path += f"{long}/"
    pivot = "/".join(steps) + "/" + "l" * 254
    out = link("out", pivot + "/.." * 3 + "/outside")
    sent = archive(*members, link(pivot, "../" * len(steps)), out, member("out/theirs", b"x"))
    unpack(sent, root, "", is_directory=True)
    assert not (root / "out").is_symlink()


def test_a_link_of_the_user_is_not_followed(root: Path) -> None:
    (root / "mine").symlink_to("../outside")
    (root / "f").symlink_to("../outside/theirs")
    sent = archive(directory("mine"), member("mine/theirs", b"x"), member("f", b"x"))
    assert len(unpack(sent, root, "", is_directory=True).left_out) == 3
    assert tree(root) == {"mine": "-> ../outside", "f": "-> ../outside/theirs"}


def test_files_are_ours_and_cannot_take_rights(root: Path) -> None:
    sent = archive(member("f", b"1", mode=0o6777, uid=4242, gid=4242))
    unpack(sent, root, "", is_directory=True)
    status = (root / "f").stat()
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    assert stat.S_IMODE(status.st_mode) == 0o755


class Endless(io.RawIOBase):
    """A member of that kind, with so long a description that nobody may want to read it."""

    def __init__(self, kind: bytes) -> None:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 2**40
        self._head, self._read = info.tobuf(tarfile.GNU_FORMAT), 0

    def read(self, size: int = -1) -> bytes:
        self._read += size
        if self._read > 2**22:
            pytest.fail("it is read into memory")
        head, self._head = self._head[:size], self._head[size:]
        return head or bytes(size)


NO_ARCHIVES = {
    "nothing": io.BytesIO(),
    "words": io.BytesIO(b"tar: no such file\n" * 100),
    "cut short": io.BytesIO(archive(member("a", b"1" * 5000)).getvalue()[:2000]),
    "endless name": Endless(tarfile.GNUTYPE_LONGNAME),
    "endless header": Endless(tarfile.XHDTYPE),
    "sparse": Endless(tarfile.GNUTYPE_SPARSE),
    "time": archive(member("a", mtime=2**70)),
}


@pytest.mark.parametrize("sent", NO_ARCHIVES.values(), ids=NO_ARCHIVES)
def test_what_makes_no_sense_is_one_error(root: Path, sent: Any) -> None:
    with pytest.raises(NoArchive):
        unpack(sent, root, "", is_directory=True)


@pytest.mark.parametrize("sent", [archive(directory("a")), archive(member("a"), member("b"))])
def test_who_asked_for_a_file_gets_one(root: Path, sent: io.BytesIO) -> None:
    with pytest.raises(NoArchive):
        unpack(sent, root, "name", is_directory=False)


def test_a_host_that_does_not_take_it(root: Path) -> None:
    with pytest.raises(CopyFailed, match="name too long"):
        unpack(archive(member("n" * 300, b"1")), root, "", is_directory=True)


def test_what_is_packed_is_unpacked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("source")
    (source / "d").mkdir()
    (source / "d" / ("long-" * 40)).write_text("1")
    (source / "d" / "l").symlink_to("..")
    os.mkfifo(source / "pipe")
    pieces: list[bytes] = []
    packed = pack(source, "top", lambda data: pieces.append(bytes(data)))
    assert (packed.files, packed.size, len(packed.left_out)) == (2, 1, 1)
    unpack(io.BytesIO(b"".join(pieces)), root, "", is_directory=True)
    assert tree(root) == {"top": "", "top/d": "", f"top/d/{'long-' * 40}": "1", "top/d/l": "-> .."}


async def test_what_cannot_be_packed_ends_the_copy(tmp_path: Path) -> None:
    """Both sides would wait for ever otherwise: the command for its input, we for its answer."""
    deep = tmp_path / "deep"
    deep.mkdir()
    subprocess.run(["sh", "-c", "for i in $(seq 1200); do mkdir d; cd d; done"], cwd=deep)
    write = Transfer(FakeExecution(["cat"]))
    try:
        work = partial(pack, deep, "deep", write.execution.send)
        copying = write.in_thread(lambda: feed(write, work))
        with pytest.raises(CopyFailed, match="nested too deep"):
            await asyncio.wait_for(copying, 20)
    finally:
        write.execution.close()
        subprocess.run(["rm", "-rf", deep])
