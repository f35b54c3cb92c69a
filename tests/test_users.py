"""Who the kernel is, and what is its own: connection file, home, workspace."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import IMAGE, IPYKERNEL, StartKernel, own_jupyter, shared_folder, write_kernelspec
from .ends import left_below
from .other_pythons import SYSTEM_PYTHON, install
from .seen import seen

pytestmark = pytest.mark.docker

OWNED = """
import os, stat
def owned(path):
    status = os.stat(path)
    return [stat.filemode(status.st_mode), status.st_uid, status.st_gid]

seen = {
    "user": [os.getuid(), os.getgid()],
    "connection file": owned("/run/kernel/connection.json"),
    "environment": owned("/run/kernel/environment"),
    "sockets": owned("/run/kernel/sockets"),
    "home": owned("/home/kernel"),
}
"""


def owned_by(uid: int, gid: int, *, server: int = 0) -> dict[str, Any]:
    """`server`: the uid of the process that starts the kernel."""
    return {
        "user": [uid, gid],
        "connection file": ["-rw-------", uid, gid],
        "environment": ["-rw-------", uid, gid],
        # A server that is root closes the directory once the kernel has made its sockets.
        "sockets": ["drwxr-xr-x", 0, 0] if server == 0 else ["drwx------", uid, gid],
        "home": ["drwx------", uid, gid],
    }


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@needs_root
@pytest.mark.parametrize(
    ("stanza", "uid", "gid"),
    [
        ({}, 65534, 65534),
        ({"image": IMAGE}, 12345, 12345),
        ({"user": "4242:100"}, 4242, 100),
        ({"user": "4242:100", "image": IMAGE}, 4242, 100),
        ({"user": "4242:100", "profile": "dev"}, 4242, 100),
        ({"user": "4242:100", "profile": "dev", "image": IMAGE}, 4242, 100),
    ],
    ids=["nobody", "image's", "4242", "4242-in-image", "4242-dev", "4242-dev-in-image"],
)
async def test_private_files_are_the_kernels_own(
    start_kernel: StartKernel, stanza: dict[str, Any], uid: int, gid: int
):
    """F7, and F38 for the home, which is uploaded where the root filesystem can be written."""
    kernel = await start_kernel(**stanza)
    assert await seen(kernel, OWNED) == owned_by(uid, gid)
    directory = kernel.provisioner.facts.directory.path
    assert stat.filemode(directory.stat().st_mode) == "drwx------"
    assert stat.filemode(directory.parent.stat().st_mode) == "drwx------"


HISTORY = """
import os
history = get_ipython().history_manager
history.writeout_cache()
seen = {
    "user": f"{os.getuid()}:{os.getgid()}",
    "home": os.path.expanduser("~"),
    "history": [history.enabled, str(history.hist_file).startswith("/home/kernel/"),
                os.path.getsize(history.hist_file) > 0],
    "home is in memory": any(line.split()[:3] == ["tmpfs", "/home/kernel", "tmpfs"]
                             for line in open("/proc/mounts")),
}
"""


@needs_root
@pytest.mark.parametrize("stanza", [{}, {"image": IMAGE}], ids=["host", "image"])
async def test_any_uid_has_a_home(start_kernel: StartKernel, stanza: dict[str, Any]):
    """F35"""
    kernel = await start_kernel(user="4242:4242", **stanza)
    assert await seen(kernel, HISTORY) == {
        "user": "4242:4242",
        "home": "/home/kernel",
        "history": [True, True, True],
        "home is in memory": True,
    }


ACCOUNTS = """
import getpass, grp, os, pwd
account = pwd.getpwuid(os.getuid())
seen = [getpass.getuser(), account.pw_name, account.pw_dir, grp.getgrgid(os.getgid()).gr_name,
        sorted(entry.pw_name for entry in pwd.getpwall())]
"""


async def test_accounts_name_the_kernel_and_nobody_of_the_host(start_kernel: StartKernel):
    kernel = await start_kernel()
    assert await seen(kernel, ACCOUNTS) == [
        *("kernel", "kernel", "/home/kernel", "kernel"),
        ["kernel", "root"],
    ]


@pytest.fixture
def theirs(folder: Path) -> Path:
    """A notebook's folder that belongs to somebody else than root."""
    os.chown(folder, 1234, 1235)
    folder.chmod(0o755)
    return folder


@needs_root
async def test_kernel_of_a_root_server_writes_as_the_workspaces_owner(
    start_kernel: StartKernel, theirs: Path, caplog: pytest.LogCaptureFixture
):
    kernel = await start_kernel(profile="dev")
    await kernel.run("open('result.csv', 'w').close()")
    status = (theirs / "result.csv").stat()
    assert (status.st_uid, status.st_gid) == (1234, 1235)
    assert caplog.messages == []


@needs_root
async def test_workspace_of_roots_is_said_to_be_read_only_for_the_kernel(
    start_kernel: StartKernel, folder: Path, caplog: pytest.LogCaptureFixture
):
    kernel = await start_kernel(profile="dev")
    assert caplog.messages == [
        f"Kernel {kernel.manager.kernel_id}: The kernel runs as uid 65534 and can read but not "
        f"write {str(folder)!r} (drwxr-xr-x, owner 0). Change its owner, or set user to the "
        "owner's uid:gid."
    ]
    assert "PermissionError" in await kernel.run("open('result.csv', 'w')")


@needs_root
async def test_workspace_that_the_kernel_cannot_enter_is_refused(
    start_kernel: StartKernel, theirs: Path
):
    theirs.chmod(0o700)
    with pytest.raises(RuntimeError, match=r"uid 65534 and cannot read .* owner 1234"):
        await start_kernel()


CALLER = """
import asyncio, sys
from jupyter_client.manager import start_new_async_kernel

async def main(name, code):
    manager, client = await start_new_async_kernel(kernel_name=name)
    try:
        await client.execute_interactive(code, timeout=30)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    """Copies of ours, which may stand where nobody else can read them."""
    with shared_folder() as folder:
        yield install(folder, "container-provisioner", "ipykernel")


HerJupyter = tuple[Path, list[str], dict[str, str]]


@pytest.fixture
def her_jupyter(packages: Path) -> Iterator[HerJupyter]:
    """For a process of uid 1000: its Jupyter's folder, how to become that user, its variables."""
    with own_jupyter() as runtime:
        base = runtime.parent
        variables = {"PYTHONPATH": str(packages), "HOME": str(base), "PATH": "/usr/bin:/bin"}
        names = ("JUPYTER_RUNTIME_DIR", "JUPYTER_PATH", "JUPYTER_DATA_DIR", "DOCKER_HOST")
        variables.update({name: os.environ[name] for name in names if name in os.environ})
        become = []
        if os.getuid() == 0:
            group = Path(docker_socket()).stat().st_gid
            become = ["setpriv", "--reuid=1000", "--regid=1000", f"--groups={group}"]
            shutil.chown(base, 1000, 1000)
            shutil.chown(runtime, 1000, 1000)
        yield base, become, variables


def docker_socket() -> str:
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


def as_her(jupyter: HerJupyter, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script as that user, in a folder that is hers to read."""
    base, become, variables = jupyter
    work = base / "work"
    work.mkdir(mode=0o755)
    command, options = [*become, SYSTEM_PYTHON, "-c", *arguments], {"env": variables, "cwd": work}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize("root", ["host", "image"])
def test_server_that_is_not_root_hands_over_files_to_its_own_uid(
    her_jupyter: HerJupyter, packages: Path, root: str
):
    """F7: the image's user is another, and would not be able to read them."""
    base, become, _ = her_jupyter
    write_kernelspec(
        base / "runtime",
        argv=[SYSTEM_PYTHON, *IPYKERNEL[1:]],
        mounts=[f"{packages}:{packages}"] if root == "host" else [],
        env={"PYTHONPATH": str(packages) if root == "host" else ""},
        image=IMAGE if root == "image" else "",
    )
    code = OWNED + "import json; print(json.dumps(seen))"
    done = as_her(her_jupyter, CALLER, "contained", code)
    assert done.returncode == 0, done.stderr
    ids = (1000, 1000) if become else (os.getuid(), os.getgid())
    assert json.loads(done.stdout) == owned_by(*ids, server=ids[0])
    assert left_below(base / "runtime") == []


@needs_root
def test_server_that_may_not_reach_the_engine_is_told_so(her_jupyter: HerJupyter):
    base, become, variables = her_jupyter
    # Else a Podman of hers would be taken, where one is installed.
    write_kernelspec(base / "runtime", image=IMAGE, engine="docker")
    outsider = [*(word for word in become if not word.startswith("--groups")), "--clear-groups"]
    done = as_her((base, outsider, variables), CALLER, "contained", "")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"Tried: unix://{docker_socket()} (permission denied)" in last
    assert "may this user reach its socket" in last
    assert left_below(base / "runtime") == []
