"""``jupyter container-kernel cp``: files into a kernel's container and out of it."""

from __future__ import annotations

import glob
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.cli.cp import Place
from container_provisioner.copying.transfer import TAKE_BACK

from .command_line import command
from .conftest import IMAGE, WriteKernelspec
from .owners import Owner, StartOwner, start_owner_fixture  # noqa: F401 - a fixture

KERNEL_UID = 12345  # the image's user

# In the container: a home and /tmp of its own over a root filesystem that is read-only.
FILES = """
import os
os.makedirs("/tmp/results/more")
open("/tmp/results/a.txt", "w").write("one")
open("/tmp/results/more/big", "wb").write(bytes(3_000_000))
os.symlink("a.txt", "/tmp/results/link")
open(os.path.expanduser("~/in home"), "w").write("two")
print("done")
"""


@pytest.fixture
def owner(kernelspec: WriteKernelspec, start_owner: StartOwner) -> Iterator[Owner]:
    kernelspec(image=IMAGE, workspace="none", user="image")
    owner = start_owner(code=FILES, manager={"autorestart": False})
    yield owner
    owner.end()


def inside(owner: Owner, script: str) -> str:
    """What a shell in the container says."""
    return str(owner.container.exec_run(["sh", "-c", script]).output.decode())


def start(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "container_provisioner", *arguments],
        capture_output=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("abc:/tmp/x", Place("abc", "/tmp/x"), "x"),
        ("abc:x/", Place("abc", "x/"), "x"),
        ("abc:", Place("abc", "."), ""),
        ("abc:x/.", Place("abc", "x/."), ""),
        ("./abc:x", Place("", "./abc:x"), "abc:x"),
        ("/a/b:c", Place("", "/a/b:c"), "b:c"),
        ("a/b:c", Place("", "a/b:c"), "b:c"),
        (":x", Place("", ":x"), ":x"),
        ("..", Place("", ".."), ""),
        ("-", Place("", "-"), "-"),
    ],
)
def test_what_is_a_kernels_path(text: str, place: Place, name: str) -> None:
    assert Place.parse(text) == place
    assert place.name == name


@pytest.mark.docker
def test_out(owner: Owner, tmp_path: Path) -> None:
    """F38: what the engine's own archive calls cannot see, as ``cp`` would have it."""
    kernel, there = owner.kernel_id, tmp_path / "there"
    there.mkdir()

    def out(source: str, destination: Path | str) -> Any:
        done = command("cp", "--json", f"{kernel}:{source}", str(destination))
        assert (done.code, done.stderr) == (0, "")
        return done.json

    copied = {"kernel_id": kernel, "files": 3, "bytes": 3_000_003, "left_out": []}
    assert out("/tmp/results", there) == copied
    assert (there / "results" / "a.txt").read_text() == "one"
    assert (there / "results" / "more" / "big").read_bytes() == bytes(3_000_000)
    assert (there / "results" / "link").readlink() == Path("a.txt")
    assert (there / "results" / "a.txt").stat().st_uid == os.getuid()
    out("/tmp/results", there / "new")
    assert (there / "new" / "a.txt").exists()
    out("/tmp/results/more/.", there)
    assert (there / "big").exists()
    out("/tmp/results/link", f"{there}/")  # a link that is named is followed
    assert (there / "link").read_text() == "one"
    out("in home", there / "renamed")  # relative to where the kernel started, which is its home
    out("/tmp/results/a.txt", there / "renamed")
    assert (there / "renamed").read_text() == "one"
    piped = start("cp", f"{kernel}:/tmp/results", "-")
    with tarfile.open(fileobj=io.BytesIO(piped.stdout)) as archive:
        assert sorted(archive.getnames()) == [
            *("results", "results/a.txt", "results/link", "results/more", "results/more/big")
        ]


@pytest.mark.docker
def test_in(owner: Owner, tmp_path: Path) -> None:
    """F38: what is written is the kernel's own, also where the engine refuses an upload."""
    kernel, source = owner.kernel_id, tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "script").write_text("x")
    (source / "script").chmod(0o750)
    (source / "sub" / "big").write_bytes(bytes(3_000_000))

    def put(path: Path | str, destination: str) -> None:
        done = command("cp", str(path), f"{kernel}:{destination}")
        assert (done.code, done.stdout) == (0, ""), done.stderr

    put(source, "/tmp")
    put(source, "new")
    put(f"{source}/.", "/tmp/results")
    put(source / "script", "/tmp/results/a.txt")
    put(source / "script", "-dash")
    listed = inside(owner, "cd; find /tmp new ./-dash -printf '%p %U:%G %m\\n' | sort")
    for path, mode in {
        "/tmp/source": 755,
        "/tmp/source/script": 750,
        "/tmp/source/sub/big": 644,
        "new/sub/big": 644,
        "/tmp/results/sub/big": 644,
        "/tmp/results/a.txt": 750,
        "./-dash": 750,
    }.items():
        assert f"{path} {KERNEL_UID}:{KERNEL_UID} {mode}\n" in listed
    assert inside(owner, "cat /tmp/results/a.txt; wc -c < /tmp/source/sub/big") == "x3000000\n"
    archive = start("cp", f"{kernel}:/tmp/results", "-").stdout
    assert start("cp", "-", f"{kernel}:/tmp/source", input=archive).returncode == 0
    assert inside(owner, "cat /tmp/source/results/a.txt") == "x"


@pytest.mark.docker
def test_what_cannot_be_copied_is_one_error(owner: Owner, tmp_path: Path) -> None:
    kernel, here = owner.kernel_id, tmp_path / "file"
    here.write_text("x")
    inside(owner, "mkfifo /tmp/results/pipe; ln -s /etc/passwd /tmp/results/out")

    def fails(source: object, destination: object, words: str, code: int = 11) -> None:
        done = command("cp", str(source), str(destination))
        assert (done.code, done.stdout) == (code, "")
        assert words in done.stderr
        assert done.stderr.splitlines()[-1].startswith("Error: ")

    fails(f"{kernel}:/tmp/no", tmp_path, "no '/tmp/no'")
    fails(f"{kernel}:/tmp/results/a.txt", tmp_path / "no" / "x", "no directory for")
    fails(f"{kernel}:/tmp/results/a.txt", f"{tmp_path}/no/", "no directory")
    fails(f"{kernel}:/tmp/results", here, "is not a directory")
    fails(f"{kernel}:/etc/shadow", tmp_path, "Permission denied")
    fails(f"{kernel}:/tmp/results", tmp_path / "out", "'./out' is left out")
    assert (tmp_path / "out" / "a.txt").exists()
    fails(here, f"{kernel}:/usr/x", "Read-only file system")
    fails(here, f"{kernel}:/no/x", "no directory for")
    fails(tmp_path, f"{kernel}:/tmp/results/a.txt", "is not a directory")
    fails(tmp_path / "no", f"{kernel}:", "on this machine")
    fails(tmp_path / "pipe", f"{kernel}:", "on this machine")
    fails("a", "b", "has to be KERNEL:PATH", 2)
    fails(f"{kernel}:a", f"{kernel}:b", "has to be KERNEL:PATH", 2)
    fails("no-such-kernel:a", tmp_path, "no kernel", 10)
    # Where it looked, and where such a file may be.
    fails(f"{kernel}:results", tmp_path, "no 'results' in /home/kernel in container")
    fails(f"{kernel}:results", tmp_path, f"'{kernel[:8]}:/home/kernel/results', '…:/tmp/results'")
    fails(here, f"{kernel}:/usr/x", "can write to its home, /home/kernel, and to /tmp.")
    (tmp_path / "hostname").write_text("x")  # the root filesystem has one
    fails(tmp_path / "hostname", f"{kernel}:/etc", "That is read-only. The kernel can")
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    inside(owner, "head -c 536000000 /dev/zero >/tmp/fill")
    fails(
        tmp_path / "big", f"{kernel}:/tmp", "no room for all of it: /home/kernel and /tmp hold 512 "
    )
    inside(owner, "rm /tmp/fill")
    owner.container.pause()
    fails(f"{kernel}:/tmp", tmp_path, "is paused", 8)
    owner.container.unpause()
    owner.container.kill()
    owner.container.wait()
    fails(f"{kernel}:/tmp", tmp_path, "It has ended.", 8)
    fails(f"{kernel}:/tmp", tmp_path, f"'docker cp {owner.container.name}:…'", 8)


@pytest.mark.docker
def test_ctrl_c_leaves_nothing_of_a_copy(owner: Owner, tmp_path: Path) -> None:
    """Neither here nor there; what was there before is whole."""
    kernel, large = owner.kernel_id, 4 * 2**30  # bytes, none of them on a disk
    inside(owner, f"mkdir /tmp/data; cd /tmp/data; truncate -s {large} zeros; echo one >small")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "a").write_text("a")
    with open(here / "zeros", "wb") as file:
        file.truncate(large)

    def interrupted(*arguments: str, when: Callable[[], object]) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "container_provisioner", "cp", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 30
        while not when() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert stdout == ""
        return process.returncode, stderr

    nothing = (130, "Interrupted: nothing was copied.\n")
    half_there = f"{tmp_path}/there/**/.container-kernel-*"
    part = partial(glob.glob, half_there, recursive=True)
    assert interrupted(f"{kernel}:/tmp/data", str(there / "new"), when=part) == nothing
    assert list(there.iterdir()) == []
    (there / "data").mkdir()
    (there / "data" / "zeros").write_text("before")
    (there / "data" / "small").write_text("before")
    replaced = (130, "Interrupted: 1 file had been replaced, the others were not.\n")
    assert interrupted(f"{kernel}:/tmp/data", str(there), when=part) == replaced
    assert {path.name: path.read_text() for path in (there / "data").iterdir()} == {
        "small": "one\n",
        "zeros": "before",
    }
    arrives = partial(inside, owner, "ls -d /tmp/new /tmp/results/here 2>/dev/null")
    for destination in ("/tmp/new", "/tmp/results"):
        assert interrupted(str(here), f"{kernel}:{destination}", when=arrives) == nothing
        assert arrives() == ""
    assert inside(owner, "cat /tmp/results/a.txt") == "one"


@pytest.mark.docker
def test_without_tar_the_kernels_python_does_it(
    kernelspec: WriteKernelspec, start_owner: StartOwner, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.touch(0o644)
    kernelspec(
        image=IMAGE,
        workspace="none",
        user="image",
        mounts=[f"{empty}:/usr/bin/tar"],
    )
    owner = start_owner(code=FILES, manager={"autorestart": False})
    kernel = owner.kernel_id
    assert inside(owner, "command -v tar") == ""
    assert command("cp", f"{kernel}:/tmp/results", str(tmp_path)).code == 0
    assert (tmp_path / "results" / "more" / "big").stat().st_size == 3_000_000
    (tmp_path / "file").write_text("x")
    done = command("cp", str(tmp_path / "file"), f"{kernel}:renamed")
    assert (done.code, done.stderr) == (0, "1 file copied, 1 byte.\n")
    assert inside(owner, "cat ~/renamed; stat -c %u ~/renamed") == f"x{KERNEL_UID}\n"
    assert command("cp", f"{kernel}:no", str(tmp_path)).code == 11
    assert json.loads(command("cp", "--json", f"{kernel}:renamed", str(tmp_path)).stdout)["files"]
    owner.end()


@pytest.mark.parametrize("argv", [("sh", "-c"), (sys.executable, "-c")], ids=["sh", "python"])
@pytest.mark.parametrize("is_directory", [True, False])
def test_what_was_begun_is_taken_back(tmp_path: Path, argv: Any, is_directory: bool) -> None:
    """By what is in the container, of the two."""
    begun = tmp_path / "-begun"
    if is_directory:
        (begun / "sub").mkdir(parents=True)
    else:
        begun.touch()
    writer = subprocess.Popen(["sleep", "60"])
    reaper = threading.Thread(target=writer.wait)
    reaper.start()
    script, *name = (TAKE_BACK[0], "sh") if argv[0] == "sh" else (TAKE_BACK[1],)
    done = subprocess.run(
        [*argv, script, *name, "-begun", str(writer.pid)],
        input=b"\n",
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    reaper.join(60)
    assert (done.stdout, done.stderr, begun.exists()) == (b"absent\n", b"", False)
    assert writer.returncode == -signal.SIGKILL
