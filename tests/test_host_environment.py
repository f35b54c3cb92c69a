"""The host's own environment: which program, which mounts, which image under it."""

from __future__ import annotations

import io
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from container_provisioner.environment import HOME
from container_provisioner.errors import ConfigurationError
from container_provisioner.host_environment import (
    ETC,
    SYSTEM_PATH,
    Program,
    account_files,
    empty_image,
    find_program,
    home_archive,
    host_mounts,
    host_variables,
)
from container_provisioner.policy import KernelUser
from container_provisioner.spec import Mount

THIS = tuple(dict.fromkeys([sys.prefix, sys.base_prefix, sys.exec_prefix]))


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment, without pip."""
    venv.create(tmp_path / "a venv", symlinks=True)
    return tmp_path / "a venv"


def test_this_interpreter() -> None:
    program = find_program(sys.executable)
    assert program == Program(path=sys.executable, prefixes=THIS, user_site=program.user_site)


def test_a_virtual_environment_and_what_it_stands_on(environment: Path) -> None:
    python = str(environment / "bin" / "python")
    assert find_program(python) == Program(
        path=python, prefixes=(str(environment), sys.base_prefix)
    )


def test_a_name_is_looked_up_on_the_path(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{environment}/bin:/usr/bin:/bin")
    assert find_program("python3").path == str(environment / "bin" / "python3")


def test_a_wrapper_script_answers_for_its_interpreter(tmp_path: Path) -> None:
    """As pyenv's shims do."""
    shim = script(tmp_path / "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    assert find_program(str(shim)).path == sys.executable


def test_the_server_cannot_mislead_the_probe(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    python = str(environment / "bin" / "python")
    assert find_program(python).path == python


@pytest.mark.parametrize("name", ["no-such-kernel", "/no/such/python3", "", "a\nb"])
def test_a_missing_program(name: str) -> None:
    words = f"This host has no program {name!r}, and no image is configured."
    with pytest.raises(ConfigurationError) as caught:
        find_program(name)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\necho first >&2; echo boom >&2; exit 3\n", "boom"),
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("#!/bin/sh\necho not json\n", "Expecting value"),
        ("#!/bin/sh\necho '[1]'\n", "not enough values"),
        ("#!/bin/sh\necho '{}'\n", "not enough values"),
        ("#!/no/such/interpreter\n", "No such file"),
        ("\x7fELF", "Exec format error"),
    ],
)
def test_a_broken_interpreter(tmp_path: Path, text: str, words: str) -> None:
    python = script(tmp_path / "python3", text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        find_program(str(python))
    message = str(caught.value)
    assert message.startswith(f"The interpreter {str(python)!r} does not run: ")
    assert len(message.splitlines()) == 1


def test_a_program_that_is_not_python(tmp_path: Path) -> None:
    kernel = script(tmp_path / "opt" / "r" / "bin" / "R", "#!/bin/sh\n")
    (tmp_path / "R").symlink_to(kernel)
    expected = Program(path=str(tmp_path / "R"), prefixes=(str(tmp_path / "opt" / "r"),))
    assert find_program(str(tmp_path / "R")) == expected
    alone = script(tmp_path / "opt" / "k" / "kernel", "#!/bin/sh\n")
    assert find_program(str(alone)).prefixes == (str(tmp_path / "opt" / "k"),)


def targets(*prefixes: Path | str, user_site: str = "") -> list[str]:
    program = Program(path="/x/k", prefixes=tuple(map(str, prefixes)), user_site=user_site)
    return [mount.target for mount in host_mounts(program)]


def test_everything_is_read_only_exists_and_stands_once(environment: Path) -> None:
    mounts = host_mounts(find_program(str(environment / "bin" / "python")))
    assert all(mount.read_only and Path(mount.source).exists() for mount in mounts)
    assert mounts[0] == Mount(source="/usr", target="/usr")
    assert len({mount.target for mount in mounts}) == len(mounts)
    assert str(environment) in {mount.target for mount in mounts}


def test_of_etc_only_single_things_are_mounted() -> None:
    etc = {target for target in targets() if Path(target).is_relative_to("/etc")}
    assert etc <= {f"/etc/{name}" for name in ETC}
    assert "/etc/passwd" not in etc


def test_what_lies_in_usr_is_not_mounted_twice() -> None:
    assert targets("/usr", "/usr/local/x") == targets()


def test_an_installation_behind_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "python-3.12").mkdir()
    (tmp_path / "python").symlink_to("python-3.12")
    program = Program(path="/x", prefixes=(str(tmp_path / "python"),))
    assert host_mounts(program)[-1] == Mount(
        source=str(tmp_path / "python-3.12"), target=str(tmp_path / "python")
    )


def test_a_prefix_that_holds_a_home_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "u"
    (home / "venv").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(home))
    assert str(home / "venv") in targets(home / "venv")
    for prefix in ("/", home, home.parent, tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="holds a home directory"):
            targets(prefix)


def test_a_prefix_that_holds_jupyters_runtime_directory_is_refused(
    runtime_dir: Path,
) -> None:
    """There stand the server's token, and the keys and sockets of all other kernels."""
    (runtime_dir.parent / "link").symlink_to(runtime_dir.parent)
    for prefix in (runtime_dir, runtime_dir.parent, runtime_dir.parent / "link"):
        with pytest.raises(ConfigurationError, match="runtime directory"):
            targets(prefix)


def test_user_packages_come_along(tmp_path: Path) -> None:
    site = tmp_path / ".local" / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    program = Program(path="/usr/bin/python3", prefixes=("/usr",), user_site=str(site))
    assert host_mounts(program)[-1] == Mount(source=str(site), target=str(site))
    assert host_variables(program) == {
        "PATH": SYSTEM_PATH,
        "PYTHONUSERBASE": str(tmp_path / ".local"),
    }


def test_path_starts_with_the_programs_folder() -> None:
    program = Program(path="/opt/venv/bin/python", prefixes=())
    assert host_variables(program) == {"PATH": f"/opt/venv/bin:{SYSTEM_PATH}"}


def test_accounts_name_the_kernels_user_and_nobody_of_the_host() -> None:
    root = "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    assert account_files(KernelUser(1000, 100)) == {
        "passwd": f"{root}kernel:x:1000:100:kernel:{HOME}:/bin/sh\n",
        "group": "root:x:0:\nkernel:x:100:\n",
    }
    assert account_files(KernelUser(0, 0)) == {"passwd": root, "group": "root:x:0:\n"}
    assert account_files(KernelUser(5, 0))["group"] == "root:x:0:\n"


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_image_is_empty_and_always_the_same() -> None:
    name, layer = empty_image()
    empty_image.cache_clear()
    assert empty_image() == (name, layer)
    found = members(layer)
    assert not any(member.isfile() for member in found.values())
    assert found["sbin"].isdir()  # the engine mounts its init there
    assert all(member.isdir() or member.issym() for member in found.values())
    assert {member.mtime for member in found.values()} == {0}
    links = {member.name: member.linkname for member in found.values() if member.issym()}
    assert links == {name: str(Path(f"/{name}").readlink()) for name in links}
    assert ("bin" in links) is Path("/bin").is_symlink()


def test_a_home_for_a_root_filesystem_that_can_be_written() -> None:
    (home,) = members(home_archive(KernelUser(1000, 100))).values()
    assert (f"/{home.name}", home.mode, home.uid, home.gid) == (HOME, 0o700, 1000, 100)
    assert home.isdir()
