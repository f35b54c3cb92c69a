"""Which variables reach the kernel, and that their values arrive as they were."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.environment import (
    NEVER,
    choose_environment,
    environment_script,
    split_environment,
    with_environment_file,
)

SERVER = {
    "AWS_KEY": "k",
    "AWS_SECRET": "s",
    "HOME": "/home/u",
    "JAVA_HOME": "/java",
    "JPY_PARENT_PID": "7",
    "JPY_SESSION_NAME": "a.ipynb",
    "JUPYTER_TOKEN": "t",
    "KERNEL_USERNAME": "u",
    "LANG": "C.UTF-8",
    "LC_TIME": "de_DE",
    "LD_PRELOAD": "/x.so",
    "PATH": "/bin",
    "TZ": "UTC",
}
ALLOWED = {
    "JPY_SESSION_NAME": "a.ipynb",
    "KERNEL_USERNAME": "u",
    "LANG": "C.UTF-8",
    "LC_TIME": "de_DE",
    "TZ": "UTC",
}


def choose(
    launch: dict[str, str] = SERVER,
    *,
    kernelspec: list[str] | None = None,
    extra: dict[str, str] | None = None,
    passthrough: list[str] | None = None,
) -> dict[str, str]:
    return choose_environment(
        launch, kernelspec=kernelspec or [], extra=extra or {}, passthrough=passthrough or []
    )


def test_only_what_is_allowed_passes() -> None:
    """F9: the server's tokens and paths are not the kernel's business."""
    assert choose() == ALLOWED


def test_the_kernelspecs_own_variables_pass_with_the_values_jupyter_filled_in() -> None:
    launch = {**SERVER, "DATA": "/home/u/data", "PATH": "/opt:/bin"}
    assert choose(launch, kernelspec=["DATA", "PATH"]) == {
        **ALLOWED,
        "DATA": "/home/u/data",
        "PATH": "/opt:/bin",
    }


@pytest.mark.parametrize("name", ["*", "JUPYTER_*", "JUPYTER_TOKE[N]"])
def test_a_name_in_the_kernelspec_is_no_pattern(name: str) -> None:
    """F9: only env_passthrough takes patterns."""
    assert choose({**SERVER, name: "own"}, kernelspec=[name]) == {**ALLOWED, name: "own"}


def test_the_trait_env_wins() -> None:
    extra = {"TZ": "Europe/Oslo", "NEW": ""}
    assert choose(extra=extra, kernelspec=["TZ"]) == {**ALLOWED, **extra}


@pytest.mark.parametrize(
    ("patterns", "more"),
    [
        (["AWS_KEY"], {"AWS_KEY": "k"}),
        (["AWS_*"], {"AWS_KEY": "k", "AWS_SECRET": "s"}),
        (["aws_*"], {}),
        (["AWS_???"], {"AWS_KEY": "k"}),
        (["UNSET", ""], {}),
        (["AWS"], {}),
    ],
)
def test_passthrough_takes_names_and_patterns(patterns: list[str], more: dict[str, str]) -> None:
    assert choose(passthrough=patterns) == {**ALLOWED, **more}


@pytest.mark.parametrize("name", NEVER)
def test_never_means_never(name: str) -> None:
    """F10: with it the kernel looks for a parent that it cannot see, and exits."""
    launch = {**SERVER, name: "7"}
    chosen = choose(launch, kernelspec=[name], extra={name: "7"}, passthrough=[name, "*"])
    assert chosen == {key: value for key, value in SERVER.items() if key not in NEVER}


def test_never_holds_the_parents_pid() -> None:
    """F10"""
    assert "JPY_PARENT_PID" in NEVER


def test_only_what_says_nothing_of_anybody_shows_in_docker_inspect() -> None:
    """F9: the other half goes into a private file."""
    plain, chosen = split_environment({**SERVER, "LANGUAGE": "de", "LANGUID": "x"})
    assert plain == {
        "JPY_SESSION_NAME": "a.ipynb",
        "LANG": "C.UTF-8",
        "LANGUAGE": "de",
        "LC_TIME": "de_DE",
        "TZ": "UTC",
    }
    assert {**plain, **chosen} == {**SERVER, "LANGUAGE": "de", "LANGUID": "x"}
    assert not plain.keys() & chosen.keys()


def run_with_file(folder: Path, chosen: dict[str, str], argv: tuple[str, ...]) -> bytes:
    """Run `argv` as the container would: by this host's /bin/sh, in an empty environment."""
    file = folder / "environment"
    file.write_text(environment_script(chosen), encoding="utf-8", newline="")
    command = with_environment_file(argv, str(file))
    return subprocess.run(command, env={}, check=True, capture_output=True).stdout


NAMES = st.from_regex(r"\AX[A-Za-z0-9_]*\Z")
VALUES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_value_arrives_as_it_was(chosen: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="a 'b' \"c\" $d\n") as folder:
        output = run_with_file(Path(folder), chosen, ("/usr/bin/env", "-0"))
    pairs = (entry.split("=", 1) for entry in output.decode().split("\0") if entry)
    arrived = {name: value for name, value in pairs if name.startswith("X")}
    assert arrived == chosen


def test_the_commands_arguments_survive_the_shell(tmp_path: Path) -> None:
    argv = ("/usr/bin/printf", "%s|", "a b", "$X", "`id`", "'", '"', "-n", "", "*", "\n")
    output = run_with_file(tmp_path, {"X": "x"}, argv)
    assert output.decode().split("|")[:-1] == list(argv[2:])


def test_the_shell_is_replaced_and_finds_the_program_by_the_path_that_was_set(
    tmp_path: Path,
) -> None:
    program = tmp_path / "kernel"
    program.write_text("#!/bin/sh\necho $$ $PPID\n")
    program.chmod(0o755)
    # The shell's own child could not be this process's: it would have another parent.
    assert run_with_file(tmp_path, {"PATH": str(tmp_path)}, ("kernel",)).split()[1] == (
        str(os.getpid()).encode()
    )


@pytest.mark.parametrize(
    "name", ["", "1A", "A-B", "A B", "A=B", "A\n", "A;id", "BASH_FUNC_f%%", "Ä", "a.b"]
)
def test_a_name_no_shell_can_set_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name that an environment variable can have"):
        environment_script({"GOOD": "1", name: "2"})


def test_a_value_no_process_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="'TOKEN'"):
        environment_script({"TOKEN": "se\0cret"})
