"""The kernelspec's command as it must read in the container."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from container_provisioner.command import (
    CONNECTION_FILE,
    RESOURCE_DIR,
    KernelCommand,
    container_command,
    is_python,
)
from container_provisioner.errors import ConfigurationError

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
NAME = Path(sys.executable).name


def formatted(template: list[str], connection_file: str, resource_dir: str) -> list[str]:
    """What jupyter_client itself makes of a kernelspec's argv."""
    manager = KernelManager(connection_file=connection_file)
    manager._kernel_spec = KernelSpec(argv=template, resource_dir=resource_dir)
    manager._launch_args = {}
    return manager.format_kernel_cmd()


def command(
    template: list[str],
    *,
    connection_file: str = "/run/user/1000/jupyter/kernel-1.json",
    resource_dir: str = "/usr/share/jupyter/kernels/k",
    in_image: bool = True,
) -> KernelCommand:
    return container_command(
        formatted(template, connection_file, resource_dir),
        template=template,
        connection_file=connection_file,
        resource_dir=resource_dir,
        in_image=in_image,
    )


@pytest.mark.parametrize(
    ("program", "in_the_image"),
    [
        ("python", "python"),
        ("python3", "python3"),
        (f"python{VERSION}", f"python{VERSION}"),
        ("python2.7", "python2.7"),
        ("pypy3", "pypy3"),
        (sys.executable, NAME),
        (f"{{prefix}}/bin/{NAME}", NAME),
        ("/opt/conda/bin/python", "/opt/conda/bin/python"),
        ("bash", "bash"),
        ("/usr/bin/R", "/usr/bin/R"),
    ],
)
def test_image_gets_its_own_interpreter(program: str, in_the_image: str) -> None:
    """F8: jupyter_client has put the host's interpreter and path into the command."""
    assert command([program, "-m", "kernel", "-f", "{connection_file}"]) == KernelCommand(
        argv=(in_the_image, "-m", "kernel", "-f", CONNECTION_FILE), uses_resources=False
    )


@pytest.mark.parametrize(
    ("program", "on_the_host"), [("python", sys.executable), ("bash", "bash"), ("/x/R", "/x/R")]
)
def test_host_environment_keeps_the_interpreter(program: str, on_the_host: str) -> None:
    """F8: there the host's interpreter is the right one; only the connection file moves."""
    assert command([program, "{connection_file}"], in_image=False) == KernelCommand(
        argv=(on_the_host, CONNECTION_FILE), uses_resources=False
    )


@pytest.mark.parametrize("template", ["--file={connection_file}", "x:{connection_file}:y"])
def test_connection_file_within_an_argument(template: str) -> None:
    """F8"""
    argument = template.format(connection_file=CONNECTION_FILE)
    assert command(["k", template]).argv == ("k", argument)


def test_connection_file_behind_a_symbolic_link(tmp_path: Path) -> None:
    """F8: jupyter_client fills in the real path, and the manager knows the other one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    linked = str(tmp_path / "link" / "kernel.json")
    assert command(["k", "{connection_file}"], connection_file=linked).argv == (
        "k",
        CONNECTION_FILE,
    )
    by_hand = container_command(
        ["k", linked],
        template=["k"],
        connection_file=linked,
        resource_dir="",
        in_image=True,
    )
    assert by_hand.argv == ("k", CONNECTION_FILE)


@pytest.mark.parametrize(
    ("template", "argv"),
    [
        (["k", "{resource_dir}/start.R"], ("k", f"{RESOURCE_DIR}/start.R")),
        (["{resource_dir}/kernel", "-v"], (f"{RESOURCE_DIR}/kernel", "-v")),
    ],
)
def test_resource_directory_is_the_one_inside(template: list[str], argv: tuple[str, ...]) -> None:
    """F8"""
    assert command(template) == KernelCommand(argv=argv, uses_resources=True)


def test_other_arguments_are_left_alone() -> None:
    template = ["k", "{unknown}", "a b", "", "$HOME", '"', "\n", "/usr/share/jupyter/kernels/k2"]
    assert command(template) == KernelCommand(argv=tuple(template), uses_resources=False)


def test_kernelspec_without_argv_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="argv is empty"):
        command([])


@given(st.lists(st.text().filter(lambda text: "{" not in text and "/" not in text), min_size=1))
def test_arguments_without_paths_survive(argv: list[str]) -> None:
    expected = KernelCommand(argv=tuple(argv), uses_resources=False)
    assert (
        container_command(
            argv,
            template=argv,
            connection_file="/run/jupyter/kernel.json",
            resource_dir="/srv/k",
            in_image=True,
        )
        == expected
    )


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("python", True),
        ("/usr/bin/python3.13t", True),
        ("/a b/pypy3.10", True),
        ("python-config", False),
        ("ipython", False),
        ("pythonw", False),
        ("/python/bin/R", False),
        ("", False),
    ],
)
def test_is_python(program: str, expected: bool) -> None:
    assert is_python(program) is expected
