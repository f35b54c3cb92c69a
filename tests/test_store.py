"""Where things are kept on disk: private directories whose sockets' paths fit."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.errors import ConfigurationError
from container_provisioner.policy import KernelUser
from container_provisioner.store import (
    KernelDirectory,
    RecordStore,
    place_id,
    private_root,
    short_name,
)

ME = KernelUser(os.getuid(), os.getgid())
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def places(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the temporary one; no place but those of the test is in reach."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir.parent / "xdg"))
    base = runtime_dir.parent / "tmp"
    base.mkdir()
    monkeypatch.setattr("container_provisioner.store.places.LAST_RESORT", str(base))
    monkeypatch.setattr("tempfile.tempdir", str(base))
    return runtime_dir.parent


LONG = "l" * 100


def test_the_runtime_directory_is_the_first_choice(places: Path) -> None:
    root = private_root()
    assert root == places / "runtime" / "container-provisioner"
    assert mode(root) == 0o700


def test_a_long_runtime_directory_gives_way_to_a_short_place(places: Path) -> None:
    """F36: a socket's path has room for 107 bytes."""
    assert private_root(places / LONG) == places / "xdg" / "container-provisioner"
    assert not (places / LONG).exists()


@pytest.mark.parametrize("xdg", [None, "", "relative"])
def test_without_one_of_its_own_the_temporary_directory_does(
    places: Path, xdg: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F36"""
    monkeypatch.chdir(places)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    if xdg is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", xdg)
    root = private_root(places / LONG)
    assert root == places / "tmp" / f"container-provisioner-{os.getuid()}"
    assert mode(root) == 0o700
    assert private_root(places / LONG) == root
    assert not (places / "container-provisioner").exists()


def test_a_relative_runtime_directory_is_made_absolute(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine takes absolute paths only."""
    monkeypatch.chdir(places)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "runtime")
    assert private_root() == places / "runtime" / "container-provisioner"
    assert RecordStore().folder == places / "runtime" / "container-provisioner" / "records"


@given(st.text("aä日", max_size=90))
def test_a_kernels_sockets_always_have_room(name: str) -> None:
    """F36: bytes are counted, not characters."""
    with (
        tempfile.TemporaryDirectory(prefix="cp-", dir="/tmp") as base,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        patch.setattr("container_provisioner.store.places.LAST_RESORT", base)
        patch.setattr("tempfile.tempdir", f"{base}/{LONG}")
        directory = KernelDirectory(private_root(Path(base, f"r{name}")) / short_name("k"))
        directory.create(ME, "0123456789abcdef")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{directory.sockets}/k-5")


def test_a_disk_that_is_full_keeps_nothing_half_written(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        place_id()
    assert [path for path in runtime_dir.rglob("*") if path.is_file()] == []


def spoil(place: Path, how: str) -> None:
    place.parent.mkdir(exist_ok=True)
    if how == "link":
        (place.parent / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(place.parent / "elsewhere")
    elif how == "file":
        place.touch(mode=0o700)
    else:
        place.mkdir()
        place.chmod(0o700 if how == "foreign" else int(how, 8))
        if how == "foreign":
            os.chown(place, 54321, 54321)


SPOILT = ["link", "file", "0750", "0701", "1777", pytest.param("foreign", marks=as_root)]


@pytest.mark.parametrize("how", SPOILT)
def test_a_place_that_others_prepared_is_not_used(places: Path, how: str) -> None:
    spoil(places / "runtime" / "container-provisioner", how)
    assert private_root() == places / "xdg" / "container-provisioner"


@pytest.mark.parametrize("how", SPOILT)
def test_when_no_place_will_do_the_error_says_what_helps(places: Path, how: str) -> None:
    """F36"""
    places.joinpath("xdg").write_text("not a directory")
    spoil(places / "tmp" / f"container-provisioner-{os.getuid()}", how)
    with pytest.raises(ConfigurationError) as caught:
        private_root(places / LONG)
    words = str(caught.value)
    assert f"{places / LONG}/container-provisioner is too long" in words
    assert "xdg" in words
    assert f"is not a private directory of uid {os.getuid()}" in words or how == "file"
    assert words.endswith("Set JUPYTER_RUNTIME_DIR to a short path of your own.")


@given(st.text(), st.text())
def test_short_names_are_hexadecimal_and_distinct(one: str, other: str) -> None:
    assert len(short_name(one)) == 12
    assert int(short_name(one), 16) >= 0
    assert (short_name(one) == short_name(other)) is (one == other)
