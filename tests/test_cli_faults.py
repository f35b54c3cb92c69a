"""Engines, folders and kernels that are not as a subcommand needs them: one line that says so."""

from __future__ import annotations

import io
import itertools
import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from container_provisioner.cli import main
from container_provisioner.engine import docker_engine, find

from .command_line import command
from .conftest import WriteKernelspec
from .listed_kernels import NOBODY, Kernels, kernels_fixture  # noqa: F401 - a fixture

WITH_LEASE = [("warm", "contained"), ("install",)]
COMMANDS = [("ps",), ("stats",), ("logs", "x"), ("inspect", "x"), ("prune",)]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_an_engine_that_is_not_there(
    runtime_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", f"unix://{runtime_dir}/none.sock")
    done = command(*arguments)
    assert (done.code, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: No container engine answers.")


@pytest.mark.parametrize("pinned", [None, "1.41"])
def test_an_engine_that_is_silent(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, pinned: str | None
) -> None:
    """It takes calls and never answers: that is said, and found out soon."""
    monkeypatch.setattr(docker_engine, "CONTACT_SECONDS", 0.5)
    monkeypatch.setattr(find, "WAITING_SECONDS", 0.1)
    if pinned:
        monkeypatch.setenv("DOCKER_API_VERSION", pinned)
    url = f"unix://{runtime_dir}/silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{runtime_dir}/silent.sock")
        silent.listen()
        done = command("ps", "--engine-url", url)
    assert (done.code, done.stdout) == (4, "")
    waiting, error = done.stderr.splitlines()
    assert waiting == f"Waiting for the engine at {url}…"
    assert f"{url} (it took the call and gave no answer within 0.5 s)" in error


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("ls", "'ps' lists kernels, 'jupyter kernelspec list' kernelspecs."),
        ("rm", "'kill' ends and removes kernels, 'jupyter kernelspec remove' kernelspecs."),
        ("exec", "'attach --run CODE' runs code in a kernel."),
    ],
)
def test_a_command_of_docker_or_kernelspec(word: str, says: str) -> None:
    done = command(word, "x")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"Error: No such command {word!r}. {says}"


def test_where_to_look_and_how_much_to_say_can_follow_the_subcommand(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", root.level)
    url = f"unix://{runtime_dir}/none.sock"
    for arguments in (("--engine-url", url, "ps"), ("ps", "--engine-url", url, "--debug")):
        assert root.level != logging.DEBUG
        done = command(*arguments)
        assert done.code == 4
        assert f"Tried: {url} " in done.stderr
    assert root.level == logging.DEBUG


@pytest.mark.parametrize(
    ("arguments", "broken"),
    [
        *itertools.product([("ps",), ("prune",), *WITH_LEASE], ["a file", "/proc/none"]),
        *((arguments, "leases") for arguments in WITH_LEASE),
    ],
)
def test_a_runtime_folder_that_cannot_be_used(
    kernels: Kernels,
    kernelspec: WriteKernelspec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    broken: str,
) -> None:
    kernelspec()
    place = Path("/proc/none") if broken == "/proc/none" else tmp_path / "runtime"
    if broken == "a file":
        place.touch()
    elif broken == "leases":
        (place / "container-provisioner").mkdir(parents=True)
        (place / "container-provisioner" / "owners").touch()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(place))
    done = command(*arguments)
    assert (done.code, done.stdout) == (2, "")
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"Error: Jupyter's runtime directory {place} cannot be used (")
    assert "Set JUPYTER_RUNTIME_DIR" in error
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("stats",), ("attach", "--run", "1"), ("restart",), ("kill", "-s", "TERM")],
    ids=" ".join,
)
def test_what_needs_a_kernel_that_runs(kernels: Kernels, arguments: tuple[str, ...]) -> None:
    """The same words and exit code everywhere, and what can be done."""
    kernels.fake.named(kernels.add("over", argv=("true",), owner=NOBODY)).ended.wait(10)
    done = command(*arguments, "over")
    assert (done.code, done.stdout) == (8, "")
    assert done.stderr.startswith("Error: Kernel over: It has ended. ")
    assert "'kill' removes it" in done.stderr


@pytest.mark.parametrize("subcommand", ["logs", "inspect", "stats"])
def test_a_kernel_that_there_is_not_and_one_of_two(kernels: Kernels, subcommand: str) -> None:
    for kernel_id in ("abc-1", "abc-2", "abc"):
        kernels.add(kernel_id)
    done = command(subcommand, "nobodys")
    assert (done.code, done.stdout) == (10, "")
    assert done.stderr == (
        "Error: There is no kernel 'nobodys' here; 'jupyter container-kernel ps' lists them.\n"
    )
    done = command(subcommand, "abc-")
    assert (done.code, done.stdout) == (10, "")
    assert done.stderr == (
        "Error: 'abc-' is the beginning of 2 kernels: abc-1, abc-2. Give more of it.\n"
    )
    assert command(subcommand, "abc").code == 0  # a whole id wins


@pytest.mark.parametrize("subcommand", ["kill", "restart", "inspect"])
def test_a_variable_that_is_not_set_means_no_kernel(kernels: Kernels, subcommand: str) -> None:
    """Not even when there is one only: ``kill "$KERNEL"``."""
    container = kernels.add("the-only-one", owner=NOBODY, keep=True)
    done = command(subcommand, "")
    assert (done.code, done.stdout) == (10, "")
    assert done.stderr.startswith("Error: KERNEL is empty; ")
    assert kernels.fake.inspect(container).state == "running"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["ps"], 0), (["attach", "nobodys"], 10), (["ps", "--jsn"], 2)],
    ids=["out", "in", "error"],
)
def test_standard_streams_that_are_closed(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    kernels.add("one")
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    monkeypatch.setattr(sys, "argv", ["jupyter-container-kernel", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


def test_an_encoding_that_lacks_a_character(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels.add("one", folder="/\N{GREEK SMALL LETTER PI}")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["jupyter-container-kernel", "ps"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert written.getvalue().endswith(b"  /\\u03c0\n")


def test_an_output_that_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "container_provisioner", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: No space left on device. Add --debug to see where it happened.\n",
    )
