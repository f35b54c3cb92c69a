"""``jupyter container-kernel install IMAGE``: the kernels that are in images."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ENTRYPOINT_IMAGE, IMAGE, IPYKERNEL, PLAIN_IMAGE
from .installs import (
    STACKS_IMAGE,
    execute,
    install,
    installed,
    prefix_fixture,  # noqa: F401 - a fixture
)

pytestmark = pytest.mark.docker

FACTS = """
import os, sys
print(sys.prefix, f"{os.getuid()}:{os.getgid()}", *map(os.environ.get, ("STACK", "TAKEN")))
"""


def test_an_image_like_the_docker_stacks(
    prefix: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """F34, and F9: its kernelspec cannot have this server's variables filled in."""
    monkeypatch.setenv("SERVER_SECRET", "which is nobody's business")
    ended = install(prefix, STACKS_IMAGE, "--kernel", "python3")
    assert ended.code == 0, ended.stderr
    made = installed(prefix)
    assert made == {
        "python3-stacks-1": {
            "argv": ["/opt/conda/bin/python", *IPYKERNEL[1:]],
            "display_name": "Python 3 (ipykernel) in stacks-1",
            "language": "python",
            "interrupt_mode": "message",
            "env": {"STACK": "/opt/conda/stack", "TAKEN": "$${SERVER_SECRET}"},
            "metadata": {
                "debugger": True,
                "supported_encryption": ["curve"],
                "kernel_provisioner": {
                    "provisioner_name": "container-provisioner",
                    "config": {"image": STACKS_IMAGE},
                },
            },
        }
    }
    beside = prefix / "share/jupyter/kernels/python3-stacks-1"
    assert sorted(path.name for path in beside.iterdir()) == ["kernel.json", "logo-64x64.png"]
    user = "1000:1000" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"
    told = execute("python3-stacks-1", FACTS, folder)
    assert told == f"/opt/conda {user} /opt/conda/stack ${{SERVER_SECRET}}\n"


@pytest.mark.parametrize("image", [IMAGE, ENTRYPOINT_IMAGE])
def test_an_image_that_has_ipykernel_and_no_kernelspec(prefix: Path, image: str):
    """F34: whatever its entry point does."""
    ended = install(prefix, image, "--name", "mine", "--display-name", "Mine", "--json")
    assert json.loads(ended.stdout)[0]["answer"]["version"].startswith("3.11")
    (spec,) = installed(prefix).values()
    assert (spec["argv"], spec["display_name"]) == (IPYKERNEL, "Mine")
    assert spec["metadata"]["debugger"]
    assert spec["metadata"]["supported_encryption"] == ["curve"]
    beside = {path.name for path in (prefix / "share/jupyter/kernels/mine").iterdir()}
    assert beside == {"kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}


def test_several_kernelspecs_in_one_image(prefix: Path):
    shown = install(prefix, STACKS_IMAGE, "--list")
    assert [" ".join(line.split()) for line in shown.stdout.splitlines()] == [
        "KERNEL DISPLAY NAME LANGUAGE FOUND IN",
        "bash Bash bash /usr/local/share/jupyter/kernels/bash",
        "python3 Python 3 (ipykernel) python /opt/conda/share/jupyter/kernels/python3",
    ]
    as_json = json.loads(install(prefix, STACKS_IMAGE, "--list", "--json").stdout)
    assert [spec["argv"][0] for spec in as_json] == ["python", "/opt/conda/bin/python"]
    which = install(prefix, STACKS_IMAGE)
    assert (which.code, which.stdout) == (2, "")
    assert which.stderr.splitlines()[-1] == (
        f"Error: Image {STACKS_IMAGE!r} has 2 kernelspecs: bash, python3. Say which with "
        "--kernel NAME, once for each, or take all with --kernel all."
    )
    unknown = install(prefix, STACKS_IMAGE, "--kernel", "R")
    assert (unknown.code, unknown.stdout) == (2, "")
    assert "no kernelspec 'R', but: bash, python3." in unknown.stderr
    assert not prefix.exists()
    one = install(prefix, STACKS_IMAGE, "--kernel", "bash", "--no-check")
    assert (one.code, list(installed(prefix))) == (0, ["bash-stacks-1"])
    every = install(prefix, STACKS_IMAGE, "--kernel", "all", "--no-check")
    assert (every.code, len(every.lines)) == (0, 2)
    assert sorted(installed(prefix)) == ["bash-stacks-1", "python3-stacks-1"]


def test_on_a_terminal_it_asks_which(prefix: Path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "container_provisioner", "install", STACKS_IMAGE),
            *("--no-check", "--prefix", str(prefix)),
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, b"R\nbash\n")
    shown = b""
    with contextlib.suppress(OSError):  # what a terminal says when its last process has gone
        while some := os.read(ours, 4096):
            shown += some
    os.close(ours)
    assert process.wait(60) == 0
    assert b"Which one (bash, python3, all): " in shown
    assert b"'R' is not one of 'bash', 'python3', 'all'" in shown
    assert list(installed(prefix)) == ["bash-stacks-1"]


def test_an_image_without_a_kernel(prefix: Path):
    """F34"""
    refused = install(prefix, PLAIN_IMAGE)
    assert (refused.code, refused.stdout, prefix.exists()) == (6, "", False)
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: Image {PLAIN_IMAGE!r} has no kernel: there is no kernelspec")


def test_an_image_that_there_is_not(prefix: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONTAINER_PROVISIONER_PULL_POLICY", "never")
    refused = install(prefix, "no-such-image:1")
    assert (refused.code, refused.stdout, prefix.exists()) == (5, "", False)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: Image 'no-such-image:1' is not present")


def test_what_no_image_can_be_called(prefix: Path):
    refused = install(prefix, "An Image")
    assert (refused.code, refused.stdout, prefix.exists()) == (2, "", False)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: 'An Image' cannot be the name of an image (invalid reference")
