"""What a kernel in the sandbox can see, reach and write, observed from inside."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import IMAGE, ROOT_IMAGE, StartKernel
from .seen import seen

pytestmark = pytest.mark.docker

ROOTS: dict[str, dict[str, Any]] = {"host": {}, "image": {"image": IMAGE}}
on_both_roots = pytest.mark.parametrize("stanza", ROOTS.values(), ids=ROOTS)


# Code: says how it went.
CONNECT = """
import socket
def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect(address)
        except OSError as exc:
            return exc.strerror
        return "connected"
"""

NETWORK = (
    CONNECT
    + """
import os
def devices(path, column):
    return sorted({line.split()[column] for line in open(path)})

seen = {
    "interfaces": [name for _, name in socket.if_nameindex()],
    "routes": open("/proc/net/route").read().splitlines()[1:],
    "devices of IPv6 routes": devices("/proc/net/ipv6_route", -1),
    "IPv4": connect(socket.AF_INET, ("192.0.2.1", 80)),
    "IPv6": connect(socket.AF_INET6, ("2001:db8::1", 80)),
    "the host's loopback": connect(socket.AF_INET, ("127.0.0.1", PORT)),
}
"""
)


@on_both_roots
async def test_there_is_no_network(start_kernel: StartKernel, stanza: dict[str, Any]):
    kernel = await start_kernel(**stanza)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = await seen(kernel, NETWORK.replace("PORT", str(port)))
    assert found.pop("IPv6") in ("Network is unreachable", "Cannot assign requested address")
    assert found == {
        "interfaces": ["lo"],
        "routes": [],
        "devices of IPv6 routes": ["lo"],
        "IPv4": "Network is unreachable",
        "the host's loopback": "Connection refused",
    }


NAMES = """
import os, socket
with socket.create_server(("localhost", 0)) as server:
    socket.create_connection(("localhost", server.getsockname()[1])).close()
try:
    socket.gethostbyname("example.org")
except OSError as exc:
    refusal = exc.strerror
config = "/etc/resolv.conf"
seen = {
    "localhost": socket.gethostbyname("localhost"),
    "example.org": refusal,
    "name servers": open(config).read() if os.path.exists(config) else "",
}
"""


@on_both_roots
async def test_loopback_has_its_name_and_nothing_else_has_one(
    start_kernel: StartKernel, stanza: dict[str, Any]
):
    """Nor is it seen which name servers the host asks, and a lookup waits for none."""
    kernel = await start_kernel(**stanza)
    began = time.monotonic()
    assert await seen(kernel, NAMES) == {
        "localhost": "127.0.0.1",
        "example.org": "Temporary failure in name resolution",
        "name servers": "",
    }
    assert time.monotonic() - began < 5


async def test_loopback_has_the_names_that_it_is_given(start_kernel: StartKernel):
    """The engine writes no /etc/hosts for a container without a network of its making."""
    names = {"ExtraHosts": ["kernel:127.0.0.1", "db:127.0.0.2"]}
    kernel = await start_kernel(extra_create_options={"HostConfig": names})
    code = "import socket; seen = [*map(socket.gethostbyname, (socket.gethostname(), 'db'))]"
    assert await seen(kernel, code) == ["127.0.0.1", "127.0.0.2"]


STATUS = """
status = dict(line.rstrip().split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
seen = {name: status[name].split()[0] for name in
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")}
seen["root"] = "0" in (status["Uid"].split() + status["Gid"].split() + status["Groups"].split())
"""


@pytest.mark.parametrize("profile", ["sandbox", "dev"])
@pytest.mark.parametrize("image", ["", IMAGE, ROOT_IMAGE], ids=["host", "image", "root-image"])
async def test_kernel_has_no_privileges_and_cannot_gain_any(
    start_kernel: StartKernel, profile: str, image: str
):
    kernel = await start_kernel(profile=profile, image=image)
    capabilities = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
    assert await seen(kernel, STATUS) == {**capabilities, "NoNewPrivs": "1", "root": False}


WRITING = """
import errno, os, tempfile
def attempt(path):
    try:
        if os.path.isdir(path):
            open(os.path.join(path, "new"), "w").close()
            os.unlink(os.path.join(path, "new"))
        else:
            open(path, "a").close()
    except OSError as exc:
        return errno.errorcode[exc.errno]
    return "written"

seen = {path: attempt(path) for path in PATHS}
"""
FORBIDDEN = (
    *("/", "/usr", "/usr/lib", "/etc", "/etc/passwd", "/home", "/run", "/sbin", "/var", "/var/tmp"),
    *("/run/kernel", "/run/kernel/connection.json", "/run/kernel/environment"),
    "/proc/sys/kernel/hostname",
)
ALLOWED = ("/home/kernel", "/tmp", "/dev/shm")
# On the host's disk, but a directory in which a uid makes sockets is its own to open again.
SOCKETS_DIR = ("/run/kernel/sockets",) if os.getuid() == 0 else ()


@on_both_roots
@pytest.mark.parametrize("user", ["auto", "0"])
async def test_only_memory_can_be_written(
    start_kernel: StartKernel, folder: Path, stanza: dict[str, Any], user: str
):
    """Root too meets filesystems that are read-only: more than mere permissions are in the way."""
    (folder / "data.csv").touch()
    folder.chmod(0o777)
    kernel = await start_kernel(user=user, allow_root=user == "0", env={"A": "1"}, **stanza)
    prefix = await seen(kernel, "import sys; seen = sys.prefix")
    forbidden = (*FORBIDDEN, str(folder), str(folder / "data.csv"), prefix)
    found = await seen(kernel, WRITING.replace("PATHS", repr((*forbidden, *SOCKETS_DIR, *ALLOWED))))
    refusals = ("EROFS",) if user == "0" else ("EROFS", "EACCES")
    assert [found.pop(path) for path in SOCKETS_DIR] == ["EACCES" for path in SOCKETS_DIR]
    assert {path: found[path] in refusals for path in forbidden} == dict.fromkeys(forbidden, True)
    assert {path: found[path] for path in ALLOWED} == dict.fromkeys(ALLOWED, "written")
    assert list(folder.iterdir()) == [folder / "data.csv"]


SOCKETS = """
import os, stat
seen = sorted(
    os.path.join(folder, name)
    for top in os.listdir("/") if top not in ("proc", "sys", "usr")
    for folder, _, names in os.walk("/" + top)
    for name in names
    if stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode)
)
"""


@on_both_roots
async def test_no_socket_but_the_kernels_own_can_be_found(
    start_kernel: StartKernel, stanza: dict[str, Any]
):
    """Not the engine's, above all."""
    kernel = await start_kernel(**stanza)
    own = [f"/run/kernel/sockets/k-{number}" for number in range(1, 6)]
    assert await seen(kernel, SOCKETS) == own
    engines = ("/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock")
    code = f"import os; seen = [path for path in {engines} if os.path.exists(path)]"
    assert await seen(kernel, code) == []


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the user's, with a secret and a project in it."""
    home = folder / "ada"
    (home / "project").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").write_text("secret")
    (home / "project" / "data.csv").touch()
    monkeypatch.setenv("HOME", str(home))
    return home


LOOKING = """
import os
seen = {"home": os.path.expanduser("~"), "cwd": os.getcwd(), "files": os.listdir(),
        "the user's home": sorted(os.listdir(HOME)) if os.path.exists(HOME) else None}
"""


async def test_only_the_notebooks_folder_is_seen_of_a_home(start_kernel: StartKernel, home: Path):
    kernel = await start_kernel(launch={"cwd": str(home / "project")})
    assert await seen(kernel, LOOKING.replace("HOME", repr(str(home)))) == {
        "home": "/home/kernel",
        "cwd": str(home / "project"),
        "files": ["data.csv"],
        "the user's home": ["project"],
    }


async def test_a_home_is_not_mounted_even_if_it_is_the_notebooks_folder(
    start_kernel: StartKernel, home: Path, caplog: pytest.LogCaptureFixture
):
    kernel = await start_kernel(launch={"cwd": str(home)})
    found = await seen(kernel, LOOKING.replace("HOME", repr(str(home))))
    assert (found["cwd"], found["the user's home"]) == ("/home/kernel", None)
    assert [message for message in caplog.messages if "home or system directory" in message]


FORKING = """
import errno, subprocess
children, seen = [], "no limit"
for _ in range(200):
    try:
        children.append(subprocess.Popen(["sleep", "60"]))
    except OSError as exc:
        seen = [errno.errorcode[exc.errno], len(children) < LIMIT]
        break
for child in children:
    child.kill()
    child.wait()
"""


async def test_number_of_processes_is_bounded(start_kernel: StartKernel):
    kernel = await start_kernel(pids_limit=80)
    assert await seen(kernel, FORKING.replace("LIMIT", "80")) == ["EAGAIN", True]
    assert await kernel.run("1 + 1") == "2"


async def test_no_process_but_its_own_is_seen(start_kernel: StartKernel):
    kernel = await start_kernel(user="0", allow_root=True)
    count = "import os; seen = len([name for name in os.listdir('/proc') if name.isdigit()])"
    assert await seen(kernel, count) == 2  # the init and the kernel
