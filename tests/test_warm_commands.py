"""Which kernels can wait, by their commands."""

from __future__ import annotations

import sys

import pytest

from container_provisioner.warm.specification import standby_argv, standby_source

STANDBY = "/run/kernel/standby.py"
LAUNCHER = ("-m", "ipykernel_launcher", "-f", "/run/kernel/connection.json")


@pytest.mark.parametrize("program", ["python", "python3", "python3.13t", "/v/bin/python", "pypy3"])
@pytest.mark.parametrize(
    "options",
    [(), ("-u",), ("-X", "dev"), ("-Xdev", "-W", "error", "-I"), ("-OO", "-B")],
)
def test_an_ipykernel_waits_under_the_same_interpreter_and_options(
    program: str, options: tuple[str, ...]
):
    argv = (program, *options, *LAUNCHER)
    assert standby_argv(argv) == (program, *options, STANDBY, *argv)


def test_either_name_of_ipykernel_will_do():
    argv = ("python", "-m", "ipykernel", "-f", "c", "--colors=NoColor", "-m", "x")
    assert standby_argv(argv) == ("python", STANDBY, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("python",),
        ("python", "-m"),
        ("python", "-m", "bash_kernel", "-f", "c"),
        ("python", "-m", "ipykernel.kernelapp", "-f", "c"),
        ("python", "-mipykernel_launcher", "-f", "c"),
        ("python", "start.py", *LAUNCHER),
        ("python", "-c", "code", *LAUNCHER),
        ("python", "-c", *LAUNCHER),
        ("python", "-", *LAUNCHER),
        ("python", "-u", "start.py", *LAUNCHER),
        ("sh", *LAUNCHER),
        ("pythonish", *LAUNCHER),
        ("/usr/bin/env", "python", *LAUNCHER),
        ("conda", "run", "python", *LAUNCHER),
    ],
)
def test_everything_else_starts_cold(argv: tuple[str, ...]):
    assert standby_argv(argv) is None


def test_standby_needs_nothing_but_python_and_ipykernel():
    """It runs in images that have never heard of this package."""
    lines = [line.split() for line in standby_source().splitlines()]
    imported = [words[1] for words in lines if words[:1] in (["import"], ["from"])]
    modules = {name.partition(".")[0] for name in imported}
    assert modules - set(sys.stdlib_module_names) == {"ipykernel"}
