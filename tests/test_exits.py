"""One readable line about how a kernel ended."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.exits import (
    ExitStatus,
    explain_exit,
    explain_start,
    format_size,
    log_tail,
)

GIB = 1024**3
OOM = ExitStatus(code=137, oom_killed=True)


@pytest.mark.parametrize(
    ("status", "facts", "words"),
    [
        (ExitStatus(code=0), {}, "it ended with exit code 0"),
        (ExitStatus(code=3), {"requested": True}, "it ended with exit code 3"),
        (ExitStatus(code=128), {}, "it ended with exit code 128"),
        (ExitStatus(code=255), {}, "it ended with exit code 255"),
        (
            ExitStatus(code=143),
            {},
            "it was ended by SIGTERM from outside or by itself (exit code 143)",
        ),
        (ExitStatus(code=143), {"requested": True}, "it was ended by SIGTERM at our request (143)"),
        (
            ExitStatus(code=139),
            {},
            "it was ended by SIGSEGV from outside or by itself (exit code 139)",
        ),
        (ExitStatus(code=1, removed=True), {}, "its container was removed from outside"),
        (
            ExitStatus(code=137, oom_killed=True, removed=True),
            {"memory_limit": GIB},
            "its container was removed from outside",
        ),
        (ExitStatus(code=127, error="exec failed"), {}, "exec failed"),
        (ExitStatus(code=137, error="exec failed"), {}, "exec failed"),
    ],
)
def test_explain_exit(status: ExitStatus, facts: dict[str, int], words: str) -> None:
    words = words.replace("(143)", "(exit code 143)")
    assert explain_exit(status, **facts) == words


@pytest.mark.parametrize(
    ("status", "facts", "words"),
    [
        (OOM, {}, "it ran out of memory"),
        (OOM, {"memory_limit": 0}, "it ran out of memory"),
        (OOM, {"memory_limit": 2 * GIB}, "it ran out of memory (memory_limit is 2 GiB)"),
        (
            OOM,
            {"requested": True, "memory_limit": GIB},
            "it was ended by SIGKILL at our request (exit code 137)",
        ),
        (
            ExitStatus(code=137),
            {"memory_limit": GIB},
            "it was ended by SIGKILL from outside or by itself (exit code 137)",
        ),
        (
            ExitStatus(code=1, oom_killed=True),
            {"memory_limit": GIB},
            "it ended with exit code 1",
        ),
    ],
)
def test_only_the_kernel_killed_for_memory_is_out_of_memory(
    status: ExitStatus, facts: dict[str, int], words: str
) -> None:
    """F29: 137 may be our own kill, and the mark may be that of a child."""
    assert explain_exit(status, **facts) == words


@given(st.integers(0, 255))
def test_signal_name_is_that_of_the_shells_code(code: int) -> None:
    numbers = {128 + number.value: number.name for number in signal.Signals}
    assert ExitStatus(code=code).signal_name == numbers.get(code)


ARGV = ("python", "-m", "ipykernel_launcher", "-f", "c.json")


@pytest.mark.parametrize(
    "log",
    [
        "/usr/bin/python: No module named ipykernel_launcher",
        "ModuleNotFoundError: No module named 'ipykernel_launcher'",
        "/usr/bin/python: Error while finding module: No module named ipykernel_launcher.app",
        "No module named 'sitecustomize' | python: No module named ipykernel_launcher",
    ],
)
def test_an_image_without_a_kernel_is_named(log: str) -> None:
    """F34"""
    words = explain_start(ExitStatus(code=1), log, argv=ARGV, image="plain:1")
    assert words is not None
    assert words.startswith("image 'plain:1' has no kernel in it (no module named 'ipykernel_laun")
    assert words.endswith("install the kernel's package in the image")


@pytest.mark.parametrize("code", [126, 127])
def test_an_image_without_the_command_is_named(code: int) -> None:
    """F34"""
    assert explain_start(ExitStatus(code=code), "", argv=ARGV, image="plain:1") == (
        "image 'plain:1' has no command 'python', so no kernel can be started in it; "
        "use an image that holds a kernel, or correct the kernelspec's argv"
    )


@pytest.mark.parametrize("log", ["", "No module named 'zmq'", "ipykernel_launcher failed"])
def test_other_failures_are_not_taken_for_a_missing_kernel(log: str) -> None:
    assert explain_start(ExitStatus(code=1), log, argv=ARGV, image="plain:1") is None


@pytest.mark.parametrize(
    ("log", "tail"),
    [
        ("", ""),
        ("\n \n\t\n", ""),
        ("one", "one"),
        ("  one \r\n\n two\n", "one | two"),
        ("1\n2\n3\n4\n5\n6\n7\n", "3 | 4 | 5 | 6 | 7"),
        ("\x1b[31mred\x1b[0m \x1b[1;38;5;9mbold\x1b[K", "red bold"),
        ("\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link", "text link"),
        ("bell\x07 null\x00 back\x08space del\x7f", "bell null backspace del"),
        ("fake\x1b[2K\r[E 2026] forged", "fake | [E 2026] forged"),
        ("a\u202eb\u200bc\u2028d\x85e\x0bf", "abc | d | e | f"),
        ("schön 日本 😀", "schön 日本 😀"),
        ("cut \x1b[", "cut ["),
    ],
)
def test_log_tail(log: str, tail: str) -> None:
    assert log_tail(log) == tail


def test_log_tail_keeps_the_end_of_a_long_line() -> None:
    assert log_tail("a" * 100 + "b" * 600) == "…" + "b" * 600
    assert log_tail("a" * 700, limit=10) == "…" + "a" * 10
    assert log_tail("a" * 10, limit=10) == "a" * 10


@given(
    st.text(st.one_of(st.characters(), st.sampled_from("\x1b[]\r\n\x07\\;m0\x9b"))),
    st.integers(1, 9),
    st.integers(1, 99),
)
def test_log_tail_is_printable_short_and_one_line(log: str, lines: int, limit: int) -> None:
    tail = log_tail(log, lines=lines, limit=limit)
    assert tail.isprintable()
    assert len(tail) <= limit + 1
    assert len(tail.splitlines()) <= 1


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1, "1 byte"),
        (1024, "1 KiB"),
        (64 * 1024**2, "64 MiB"),
        (1536 * 1024**2, "1.5 GiB"),
        (2 * GIB, "2 GiB"),
        (GIB - 1, "1 GiB"),
        (int(0.1 * GIB), "102.4 MiB"),
        (1500 * GIB, "1500 GiB"),
        (123456 * GIB, "123456 GiB"),
    ],
)
def test_format_size(size: int, words: str) -> None:
    assert format_size(size) == words
