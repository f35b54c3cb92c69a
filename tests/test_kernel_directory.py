"""The private directory of one kernel, part of which the kernel can write to."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from container_provisioner.errors import KernelNotAdoptable
from container_provisioner.policy import NOBODY, KernelUser
from container_provisioner.store import KernelDirectory, short_name

ME = KernelUser(os.getuid(), os.getgid())
OTHER = KernelUser(54321, 54322)
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away")


@pytest.fixture
def directory(tmp_path: Path) -> KernelDirectory:
    directory = KernelDirectory(tmp_path / "kernel")
    directory.create(ME, "owner")
    return directory


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of ours that a hostile kernel would like us to change."""
    folder = tmp_path / "victim"
    folder.mkdir(mode=0o755)
    (folder / "file").write_text("precious")
    (folder / "file").chmod(0o640)
    return folder


def listing(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Mode and owner of everything in a folder, and of the folder."""
    return {
        str(path.relative_to(folder)): (
            stat.filemode(path.lstat().st_mode),
            path.lstat().st_uid,
            path.lstat().st_gid,
        )
        for path in sorted([folder, *folder.rglob("*")])
    }


def test_a_kernels_directory_is_in_the_private_root(runtime_dir: Path) -> None:
    root = runtime_dir / "container-provisioner"
    assert KernelDirectory.of("../k").path == root / short_name("../k")
    assert list(root.iterdir()) == []


def test_a_record_cannot_name_a_directory_that_is_not_the_kernels(runtime_dir: Path) -> None:
    """It would be removed with the kernel."""
    directory = KernelDirectory.of("k")
    assert KernelDirectory.recorded(str(directory.path), "k").path == directory.path
    for path in (None, "", "/", str(runtime_dir), short_name("k"), f"{directory.path}/.."):
        with pytest.raises(KernelNotAdoptable, match="is not the directory of kernel k"):
            KernelDirectory.recorded(path, "k")
    with pytest.raises(KernelNotAdoptable):
        KernelDirectory.recorded(str(directory.path), "another")


def sockets_of(user: KernelUser) -> tuple[str, int, int]:
    """Root's server gives it to nobody that the kernel is: see `close_sockets`."""
    if ME.uid != 0:
        return ("drwx------", *vars(user).values())
    owner = 0 if user.uid != 0 else NOBODY
    return ("drwxrwxrwx", owner, owner)


@pytest.mark.parametrize("user", [ME, pytest.param(OTHER, marks=as_root)])
def test_everything_is_for_the_kernels_user_only(tmp_path: Path, user: KernelUser) -> None:
    """F7: 0600 for the uid in the container."""
    directory = KernelDirectory(tmp_path / "kernel")
    directory.create(user, "owner")
    directory.write("connection.json", "{}", user)
    directory.write("passwd", "root", user, mode=0o644)
    ids = (user.uid, user.gid)
    assert listing(directory.path) == {
        ".": ("drwx------", *ids),
        "connection.json": ("-rw-------", *ids),
        "owner": ("-rw-------", *vars(ME).values()),
        "passwd": ("-rw-r--r--", *ids),
        "resources": ("drwx------", *ids),
        "sockets": sockets_of(user),
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    """F7"""
    before = os.umask(umask)
    try:
        directory = KernelDirectory(tmp_path / "kernel")
        directory.create(ME, "owner")
        directory.write("file", "text", ME, mode=0o644)
    finally:
        os.umask(before)
    modes = {name: entry[0] for name, entry in listing(directory.path).items()}
    assert modes == {
        ".": "drwx------",
        "file": "-rw-r--r--",
        "owner": "-rw-------",
        "resources": "drwx------",
        "sockets": sockets_of(ME)[0],
    }


def test_a_predecessors_leftovers_are_removed(directory: KernelDirectory) -> None:
    """F36"""
    directory.write("file", "text", ME)
    (directory.sockets / "k-1").touch()
    directory.create(ME, "owner")
    assert list(listing(directory.path)) == [".", "owner", "resources", "sockets"]


@pytest.mark.parametrize("text", ["", "a\r\nb\n", "schön", "bytes \udcff that are no text"])
def test_text_is_written_as_it_is(directory: KernelDirectory, text: str) -> None:
    """The values of environment variables may be any bytes; Python keeps odd ones as surrogates."""
    directory.write("file", "before", ME)
    directory.write("file", text, ME)
    assert (directory.path / "file").read_bytes() == os.fsencode(text)
    assert list(listing(directory.path)) == [".", "file", "owner", "resources", "sockets"]


@pytest.mark.parametrize("planted", ["file", ".file.new"])
def test_a_planted_link_is_replaced_and_not_followed(
    directory: KernelDirectory, victim: Path, planted: str
) -> None:
    (directory.path / planted).symlink_to(victim / "file")
    before = listing(victim)
    directory.write("file", "text", OTHER if os.getuid() == 0 else ME)
    assert (victim / "file").read_text() == "precious"
    assert listing(victim) == before
    assert not (directory.path / "file").is_symlink()
    assert (directory.path / "file").read_text() == "text"


def fill(sockets: Path, victim: Path) -> None:
    """What a hostile kernel may leave where it can write."""
    (sockets / "k-1").touch()
    (sockets / "to-file").symlink_to(victim / "file")
    (sockets / "to-folder").symlink_to(victim)
    (sockets / "dangling").symlink_to("nowhere")
    (sockets / "a b\n'\"$").touch()
    os.mkfifo(sockets / "fifo")
    (sockets / "folder" / "below").mkdir(parents=True)
    (sockets / "folder" / "below" / "to-folder").symlink_to(victim)
    (sockets / "folder" / "file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(sockets / "k-2"))
    for path in (sockets / "folder" / "below", sockets / "folder"):
        path.chmod(0o000)


def test_odd_content_of_the_sockets_is_cleared(directory: KernelDirectory, victim: Path) -> None:
    """F36: a socket file then means that somebody listens."""
    before = listing(victim)
    fill(directory.sockets, victim)
    directory.open_sockets(ME)
    assert list(listing(directory.path)) == [".", "owner", "resources", "sockets"]
    assert listing(victim) == before


@pytest.mark.skipif(os.getuid() != 0, reason="an owner can undo it")
@pytest.mark.parametrize("user", [OTHER, KernelUser(0, 0)], ids=["other", "root"])
def test_a_kernel_can_make_nothing_more_once_its_sockets_are_there(
    directory: KernelDirectory, user: KernelUser
) -> None:
    """It would be on the host's disk, which has no bounds."""

    def facts() -> tuple[bool, int]:
        status = directory.sockets.stat()
        return status.st_uid == user.uid, status.st_mode & 0o777

    directory.create(user, "owner")
    assert facts() == (False, 0o777)
    directory.close_sockets()
    assert facts() == (False, 0o755)
    directory.open_sockets(user)
    assert facts() == (False, 0o777)


def test_removal_leaves_nothing_and_touches_nothing_else(
    directory: KernelDirectory, victim: Path, tmp_path: Path
) -> None:
    before = listing(victim)
    fill(directory.sockets, victim)
    directory.remove()
    directory.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]
    assert listing(victim) == before
