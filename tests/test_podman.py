"""A kernel's life on Podman, by a service that the package starts itself."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from container_provisioner import labels
from container_provisioner.engine import podman, podman_service
from container_provisioner.engine.find import close_engines
from container_provisioner.engine.podman_service import PodmanService
from container_provisioner.store import place_id

from .command_line import command
from .conftest import IMAGE, StartKernel, WriteKernelspec
from .ends import end_of, left_below, until
from .owners import Owner, StartOwner, owners
from .podman_engine import podman_client, podman_configured
from .server_process import eventually
from .test_deaths import ALLOCATE
from .test_signals import CELLS, INTERRUPTED, interrupted

pytestmark = pytest.mark.podman

HEIR = Path(__file__).with_name("heir.py")


@pytest.fixture(autouse=True)
def service(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodmanService]:
    """What the package starts, for all kernels and commands of the test; it ends soon after."""
    monkeypatch.setattr(podman_service, "IDLE_SECONDS", 2)
    with podman_configured():
        service = PodmanService()
        monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", service.url)
        yield service
        close_engines()


@pytest.fixture
def containers(service: PodmanService) -> Iterator[docker.DockerClient]:
    client = podman_client(service)
    yield client
    left = client.containers.list(
        all=True, filters={"label": [f"{labels.PLACE}={place_id()}"]}, ignore_removed=True
    )
    for container in left:
        container.remove(force=True)
    client.close()
    assert not left, f"left behind: {[container.name for container in left]}"


@pytest.fixture
def start_owner(folder: Path, containers: docker.DockerClient) -> Iterator[StartOwner]:
    with owners(folder, containers) as start:
        yield start


def is_gone(owner: Owner) -> bool:
    try:
        return owner.container is None
    except docker.errors.APIError:  # of what is being removed, Podman says that it cannot be had
        return False


@pytest.mark.parametrize("image", ["", IMAGE], ids=["host", "image"])
async def test_a_kernel_runs_is_restarted_and_leaves_nothing(
    start_kernel: StartKernel,
    containers: docker.DockerClient,
    folder: Path,
    runtime_dir: Path,
    image: str,
):
    """Confined as on Docker, its home its own, and its folder the notebook's."""
    (folder / "beside.txt").write_text("beside")
    kernel = await start_kernel(image=image, profile="dev", network="none", workspace="ro")
    container = containers.containers.get(kernel.container_id)
    host = container.attrs["HostConfig"]
    assert (host["NetworkMode"], host["Memory"] > 0, host["PidsLimit"] > 0) == ("none", True, True)
    status = await kernel.run("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (int(fields["CapBnd"], 16), fields["NoNewPrivs"], fields["Seccomp"]) == (0, "1", "2")
    assert await kernel.run("print(open('beside.txt').read(), end='')") == "beside"
    await kernel.run("%cd -q ~\nopen('kept', 'w').write('kept'); x = 1")
    await kernel.restart()
    assert "NameError" in await kernel.run("x")
    assert await kernel.run("%cd -q ~\nprint(open('kept').read())") == "kept\n"
    await kernel.manager.shutdown_kernel()
    assert left_below(runtime_dir) == [runtime_dir / "container-provisioner" / "podman"]
    with pytest.raises(docker.errors.NotFound):
        containers.containers.get(container.id)


async def test_only_memory_that_was_asked_for_can_be_written(start_kernel: StartKernel):
    """Podman would add /run and /var/tmp, of any size."""
    kernel = await start_kernel()
    code = (
        "import os\nfor path in ('/', '/run', '/var/tmp', '/etc', '/tmp', os.environ['HOME']):\n"
        "    print(os.access(path, os.W_OK), end=' ')"
    )
    assert await kernel.run(code) == "False False False False True True "
    assert oct(int(await kernel.run("os.stat(os.environ['HOME']).st_mode & 0o777"))) == "0o700"


@pytest.mark.parametrize("way", ["host", "exec"])
async def test_an_interrupt_reaches_the_whole_group(
    start_kernel: StartKernel, monkeypatch: pytest.MonkeyPatch, way: str
):
    """From the host where the processes are its own, else by a command in the container."""
    if way == "exec":
        monkeypatch.setattr(podman, "_signal_group", lambda *_: False)
    kernel = await start_kernel(image=IMAGE if way == "exec" else "")
    names = CELLS if way == "host" else ("os.system", "loop with a child")
    cells = {name: CELLS[name] for name in names}
    seen = {name: await interrupted(kernel, code) for name, code in cells.items()}
    assert seen == {name: INTERRUPTED[name] for name in cells}


async def test_two_over_tcp_have_ports_of_their_own(start_kernel: StartKernel):
    """F23: Podman has taken a port that was left open for the same number outside."""
    stanza = {"image": IMAGE, "transport": "tcp", "network": "bridge"}
    kernels = [await start_kernel(**stanza) for _ in range(2)]
    assert len({kernel.manager.shell_port for kernel in kernels}) == 2
    for kernel in kernels:
        assert await kernel.run("6 * 7") == "42"


async def test_a_kernel_that_runs_out_of_memory_says_so(start_kernel: StartKernel):
    """F29"""
    kernel = await start_kernel(memory_limit="128m")
    kernel.client.execute(ALLOCATE)
    assert await end_of(kernel) == 137
    assert "it ran out of memory (memory_limit is 128 MiB)" in kernel.provisioner.reason
    # Podman's monitor notes it where the service was started.
    assert not Path("oom").exists()


async def test_a_kernel_that_is_killed_from_outside_did_not(start_kernel: StartKernel):
    """F29: what the kernel's log says of another container is not said of this one."""
    kernel = await start_kernel()
    await kernel.manager.signal_kernel(signal.SIGKILL)
    assert await end_of(kernel) == 137
    assert "out of memory" not in kernel.provisioner.reason


async def test_a_kept_kernel_is_had_again_after_its_owner_was_killed(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
):
    """F4, F18: the service has ended meanwhile; guard and heir start it again."""
    kernelspec("keep", on_server_exit="keep")
    kernelspec("contained", on_server_exit="keep")
    owner = start_owner()
    started = owner.container.attrs["State"]["StartedAt"]
    owner.die()
    heir = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HEIR), "print(x)", owner.kernel_id), stdout=asyncio.subprocess.PIPE
    )
    assert owner.container.attrs["State"]["StartedAt"] == started
    said, _ = await heir.communicate()
    assert json.loads(said) == {owner.kernel_id: "1\n"}
    await until(lambda: is_gone(owner))


def test_a_dead_owners_kernel_is_removed(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
):
    """By the guard, which asks the same service."""
    kernelspec("contained")
    owner = start_owner()
    owner.die()
    eventually(lambda: is_gone(owner), "the guard to remove it")


def test_the_commands(
    kernelspec: WriteKernelspec, start_owner: StartOwner, folder: Path, runtime_dir: Path
):
    """ps, stats, logs, cp, restart, and prune, which leaves a living kernel alone."""
    kernelspec("contained")
    code = "open('/tmp/made', 'w').write('made'); import os; print('made')"
    owner = start_owner(code=code)

    def run(*arguments: str) -> str:
        ended = command(*arguments)
        assert ended.code == 0, ended.stderr
        return ended.stdout

    (listed,) = json.loads(run("ps", "--json"))
    assert (listed["kernel_id"], listed["state"]) == (owner.kernel_id, "running")
    (used,) = json.loads(run("stats", "--json"))
    assert used["memory"] > 2**20
    assert "NOTE: When using" in run("logs", owner.kernel_id[:8])
    run("cp", f"{owner.kernel_id[:8]}:/tmp/made", str(folder / "made"))
    assert (folder / "made").read_text() == "made"
    run("prune")
    assert owner.container.status == "running"
    run("kill", owner.kernel_id[:8])
    owner.end()
    assert owner.container is None
