"""``jupyter container-kernel warm``: for scripts and CI, in the foreground."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from container_provisioner import labels
from container_provisioner.store import Offers

from .conftest import WriteKernelspec, shared_folder
from .ends import left_below
from .keepers import StartKeeper, container_of, start_keeper_fixture  # noqa: F401 - a fixture
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import eventually

Containers = Callable[[], list[str]]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "container_provisioner", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# -- words -------------------------------------------------------------------------------------


def test_help_says_what_there_is() -> None:
    top = run("--help")
    assert top.returncode == 0
    assert "warm" in top.stdout
    of_warm = run("warm", "--help")
    assert of_warm.returncode == 0
    for word in ("KERNEL", "--size", "--folder", "--max-age", "--json"):
        assert word in of_warm.stdout
    assert (top.stderr, of_warm.stderr) == ("", "")


def test_it_is_a_subcommand_of_jupyter() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("jupyter-container-kernel"), "warm", "-h"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "KERNEL" in found.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("warm",),
        ("warm", "x", "--size", "0"),
        ("warm", "x", "--size", "many"),
        ("warm", "x", "--folder", "/no/such/folder"),
        ("warm", "x", "--max-age", "0"),
        ("cool", "x"),
    ],
    ids=" ".join,
)
def test_wrong_arguments(arguments: tuple[str, ...]) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("Error: ")


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_kernelspec_that_there_is_not(runtime_dir: Path) -> None:
    refused = run("warm", "nobodys")
    assert refused.returncode == 2
    assert refused.stderr == (
        "Error: There is no kernelspec 'nobodys'; see 'jupyter kernelspec list'.\n"
    )


def test_a_kernelspec_of_another_provisioner(kernelspec: WriteKernelspec) -> None:
    kernelspec("local", stanza=False)
    refused = run("warm", "local")
    assert refused.returncode == 2
    assert refused.stderr == (
        "Error: Kernelspec 'local' does not name this provisioner in its metadata, so its kernels "
        "do not run in containers. 'jupyter container-kernel install --from local' makes one that "
        "does.\n"
    )


def test_a_setting_that_is_wrong(kernelspec: WriteKernelspec) -> None:
    kernelspec(memory_limit="lots")
    refused = run("warm", "contained")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "memory_limit" in line


def test_an_engine_that_is_not_there(
    kernelspec: WriteKernelspec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernelspec()
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", f"unix://{tmp_path}/none.sock")
    refused = run("warm", "contained")
    assert refused.returncode == 4
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: No container engine answers.")


@pytest.mark.docker
@pytest.mark.parametrize(
    ("stanza", "code", "words"),
    [
        ({"image": "no-such-image:1", "pull_policy": "never"}, 5, "Image 'no-such-image:1'"),
        ({"argv": ["bash", "-m", "x"]}, 2, "Only kernels that are started by"),
        ({"network": "no-such-network", "profile": "dev"}, 3, "no-such-network"),
    ],
    ids=["no-image", "cannot-wait", "engine-refuses"],
)
def test_none_can_ever_wait(
    kernelspec: WriteKernelspec,
    runtime_dir: Path,
    our_containers: Containers,
    stanza: dict[str, Any],
    code: int,
    words: str,
) -> None:
    """One line: whoever waits for the pool to be full is to be told, and once."""
    kernelspec(**stanza)
    refused = run("warm", "contained")
    assert refused.returncode == code
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    assert refused.stdout == ""
    assert our_containers() == []
    assert left_below(runtime_dir) == []


# -- what it is for ----------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_keeps_a_pool_until_it_is_told_to_end(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    start_owner: StartOwner,
    docker_client: docker.DockerClient,
    our_containers: Containers,
    runtime_dir: Path,
    signum: int,
) -> None:
    """The kernelspec does not ask; another process's kernel is warm all the same."""
    kernelspec()
    as_json = ["--json"] if signum == signal.SIGTERM else []
    says = '{"kernelspec": "contained", "warm": 2}' if as_json else "contained: 2 of 2 warm"
    keeper = start_keeper("contained", "--size", "2", *as_json)
    keeper.full(says)
    assert len(our_containers()) == 2
    owner = start_owner()
    kernel = container_of(docker_client, owner.kernel_id)
    assert labels.WARM in kernel.labels
    eventually(lambda: len(keeper.lines) == 2, "it to be full again")
    assert keeper.lines == [says] * 2
    assert keeper.end(signum) == (0, "")
    assert our_containers() == [kernel.name]  # claimed: not the keeper's any more
    owner.end()
    assert our_containers() == []
    assert left_below(runtime_dir) == []


@pytest.mark.docker
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_ended_before_it_is_full(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    our_containers: Containers,
    runtime_dir: Path,
    signum: int,
) -> None:
    kernelspec()
    keeper = start_keeper("contained", "--size", "9")
    eventually(our_containers, "a container")
    assert keeper.end(signum) == (0, "")
    assert our_containers() == []
    assert left_below(runtime_dir) == []


@pytest.mark.docker
def test_a_folder_is_named_or_where_it_was_started(
    kernelspec: WriteKernelspec,
    start_keeper: StartKeeper,
    docker_client: docker.DockerClient,
    folder: Path,
) -> None:
    kernelspec()
    with shared_folder() as elsewhere:
        for arguments, cwd in ((["--folder", str(elsewhere)], folder), ([], elsewhere)):
            keeper = start_keeper("contained", *arguments, cwd=cwd)
            keeper.full("contained: 1 of 1 warm")
            (offer,) = Offers().all()
            mounts = docker_client.containers.get(offer.container_id).attrs["Mounts"]
            sources = {mount["Source"] for mount in mounts}
            assert str(elsewhere) in sources
            assert str(folder) not in sources
            assert keeper.end(signal.SIGTERM) == (0, "")


@pytest.mark.docker
def test_one_that_waits_too_long_is_replaced(
    kernelspec: WriteKernelspec, start_keeper: StartKeeper
) -> None:
    kernelspec()
    keeper = start_keeper("contained", "--max-age", "2")
    eventually(lambda: len(keeper.lines) >= 2, "it to be full twice")
    assert set(keeper.lines) == {"contained: 1 of 1 warm"}
    assert keeper.end(signal.SIGTERM) == (0, "")
