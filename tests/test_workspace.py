"""The notebook's folder: what is mounted, who can use it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from container_provisioner.environment import HOME
from container_provisioner.errors import WorkspaceError
from container_provisioner.policy import KernelUser, Settings
from container_provisioner.spec import Mount
from container_provisioner.workspace import (
    SYSTEM_DIRS,
    Workspace,
    check_access,
    check_mounts,
    choose_workspace,
    owner,
)

PROFILE = Settings(workspace="ro")
ENGINE_SOCKET = "/nowhere/engine.sock"
NAMED = Settings(workspace="rw", workspace_named=True)


@pytest.mark.parametrize("settings", [PROFILE, NAMED])
def test_a_folder_is_mounted_at_its_own_path(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "a b:c'd\"e"
    folder.mkdir()
    assert choose_workspace(str(folder), settings) == Workspace(
        cwd=str(folder),
        mount=Mount(source=str(folder), target=str(folder), read_only=settings is PROFILE),
    )


def test_a_folder_behind_a_link_keeps_the_name_that_the_user_knows(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert choose_workspace(str(tmp_path / "link"), NAMED) == Workspace(
        cwd=str(tmp_path / "link"),
        mount=Mount(source=str(tmp_path / "real"), target=str(tmp_path / "link"), read_only=False),
    )


def test_a_relative_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "scripts")
    data = str(tmp_path / "data")
    assert choose_workspace("../data", NAMED) == Workspace(
        cwd=data, mount=Mount(source=data, target=data, read_only=False)
    )


def test_no_workspace() -> None:
    assert choose_workspace("/does/not/exist", Settings(workspace="none")) == Workspace(cwd=HOME)


@pytest.mark.parametrize("settings", [PROFILE, NAMED])
def test_what_is_no_directory_is_refused(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(WorkspaceError, match=rf"{tmp_path}/{name}' is not a directory"):
            choose_workspace(str(tmp_path / name), settings)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "u"
    (path / "notebooks").mkdir(parents=True)
    return path


def is_mounted(folder: Path | str, settings: Settings, home: Path) -> bool:
    place = choose_workspace(str(folder), settings, home=home)
    if place.mount is None:
        assert place == Workspace(cwd=HOME, notice=place.notice)
        assert str(folder) in place.notice
    else:
        assert place.notice == ""
    return place.mount is not None


def test_a_home_directory_is_mounted_only_by_name(home: Path) -> None:
    assert not is_mounted(home, PROFILE, home)
    assert is_mounted(home, NAMED, home)
    assert is_mounted(home / "notebooks", PROFILE, home)


def test_so_is_a_folder_that_holds_the_home_directory(home: Path) -> None:
    assert not is_mounted(home.parent, PROFILE, home)
    assert not is_mounted(home.parent.parent, PROFILE, home)
    assert is_mounted(home.parent.parent, NAMED, home)


def test_so_is_the_home_directory_of_somebody_else(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs as root could read it."""
    monkeypatch.setattr("container_provisioner.workspace.HOMES", home.parent)
    assert not is_mounted(home, PROFILE, tmp_path)
    assert is_mounted(home, NAMED, tmp_path)
    assert is_mounted(home / "notebooks", PROFILE, tmp_path)


def test_a_link_to_the_home_directory_is_no_way_around(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    assert not is_mounted(tmp_path / "link", PROFILE, home)
    there_and_back = str(tmp_path / "link" / "notebooks" / "..")
    assert choose_workspace(there_and_back, PROFILE, home=home).mount is None
    assert not is_mounted(home, PROFILE, tmp_path / "link")


def test_a_folder_that_holds_jupyters_runtime_directory_is_mounted_only_by_name(
    home: Path, tmp_path: Path
) -> None:
    """It holds the server's token, and the keys and sockets of the other kernels."""
    runtime = home / "notebooks" / "share" / "runtime"
    runtime.mkdir(parents=True)
    (tmp_path / "link").symlink_to(runtime)
    for folder in (home / "notebooks", runtime):
        for known_as in (runtime, tmp_path / "link"):
            place = choose_workspace(str(folder), PROFILE, runtime=known_as, home=home)
            assert place == Workspace(cwd=HOME, notice=place.notice)
            assert f"holds Jupyter's runtime directory ({known_as})" in place.notice
        named = choose_workspace(str(folder), NAMED, runtime=runtime, home=home)
        assert named.mount is not None
    beside = home / "notebooks" / "project"
    beside.mkdir()
    assert choose_workspace(str(beside), PROFILE, runtime=runtime, home=home).mount is not None


def test_a_system_directory_is_mounted_only_by_name(home: Path) -> None:
    present = [folder for folder in SYSTEM_DIRS if Path(folder).is_dir()]
    assert "/usr" in present
    assert [folder for folder in present if is_mounted(folder, PROFILE, home)] == []
    assert is_mounted("/usr", NAMED, home)
    assert is_mounted("/usr/share", PROFILE, home)


@pytest.mark.parametrize("settings", [PROFILE, NAMED])
def test_the_root_directory_is_never_mounted(home: Path, settings: Settings) -> None:
    (home / "root").symlink_to("/")
    for folder in ("/", "//", "/usr/..", str(home / "root")):
        assert choose_workspace(folder, settings, home=home) == Workspace(
            cwd=HOME, notice="The root directory is not mounted into a kernel."
        )


STRANGER, GROUP = 54321, 54322


@pytest.mark.parametrize(
    ("mode", "user", "access"),
    [
        (0o700, "owner", "write"),
        (0o500, "owner", "read"),
        (0o300, "owner", "none"),
        (0o077, "owner", "none"),  # the owner's own bits count, not the others'
        (0o070, "group", "write"),
        (0o750, "group", "read"),
        (0o707, "group", "none"),
        (0o710, "group", "none"),
        (0o777, "stranger", "write"),
        (0o1777, "stranger", "write"),
        (0o755, "stranger", "read"),
        (0o774, "stranger", "none"),
        (0o700, "stranger", "none"),
    ],
)
def test_access_as_the_mode_says(tmp_path: Path, mode: int, user: str, access: str) -> None:
    status = tmp_path.stat()
    users = {
        "owner": KernelUser(status.st_uid, GROUP),
        "group": KernelUser(STRANGER, status.st_gid),
        "stranger": KernelUser(STRANGER, GROUP),
    }
    assert access_to(tmp_path, mode, users[user]) == access


def access_to(folder: Path, mode: int, user: KernelUser) -> str:
    """Which of the three answers there is to a writable mount."""
    readable = Mount(source=str(folder), target="/w")
    folder.chmod(mode)
    try:
        notice = check_access(replace(readable, read_only=False), user)
        assert check_access(readable, user) == ""
    except WorkspaceError as exc:
        notice = str(exc)
    finally:
        folder.chmod(0o700)
    who = f"The kernel runs as uid {user.uid} and "
    refused, warned = (f"cannot read '{folder}'", f"can read but not write '{folder}'")
    if notice.startswith(who + refused):
        return "none"
    return "read" if notice.startswith(who + warned) else f"write{notice}"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make folders of others")
@pytest.mark.parametrize(("mode", "access"), [(0o777, "write"), (0o755, "read"), (0o700, "none")])
def test_root_in_the_container_is_bound_by_modes_too(
    tmp_path: Path, mode: int, access: str
) -> None:
    """Without capabilities root may not read what the mode forbids."""
    os.chown(tmp_path, STRANGER, GROUP)
    assert access_to(tmp_path, mode, KernelUser(0, 0)) == access


def test_owner(tmp_path: Path) -> None:
    assert owner(str(tmp_path)) == KernelUser(os.getuid(), tmp_path.stat().st_gid)
    assert owner("/") == KernelUser(0, 0)


def test_mounts_have_to_exist(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    there = [Mount(source=str(path), target="/x") for path in (tmp_path, tmp_path / "file")]
    check_mounts([], engine_socket=ENGINE_SOCKET)
    check_mounts(there, engine_socket=ENGINE_SOCKET)
    for name in ("missing", "dangling", "file/below", "n" * 300):
        mount = Mount(source=str(tmp_path / name), target="/x")
        with pytest.raises(WorkspaceError, match=f"mounts: '{tmp_path}/{name}' does not exist"):
            check_mounts([*there, mount], engine_socket=ENGINE_SOCKET)


def test_the_engines_socket_is_in_no_mount(tmp_path: Path) -> None:
    """By whatever path: the folders above it, and links to them."""
    socket = tmp_path / "run" / "engine.sock"
    socket.parent.mkdir()
    socket.touch()
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "beside").mkdir()
    check_mounts([Mount(source=str(tmp_path / "beside"), target="/x")], engine_socket=str(socket))
    for source in (socket, socket.parent, tmp_path, tmp_path / "link"):
        with pytest.raises(WorkspaceError, match=f"'{source}' holds the engine's socket"):
            check_mounts([Mount(source=str(source), target="/x")], engine_socket=str(socket))
