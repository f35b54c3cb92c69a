"""``ps``, ``stats``, ``logs`` and ``inspect``: what they ask the engine, and what they print."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
from typing import Any

import pytest
from rich.console import Console

from container_provisioner.cli.logs import printable
from container_provisioner.cli.output import make_table
from container_provisioner.cli.ps import ago
from container_provisioner.store import RecordStore, own_lease

from .command_line import command
from .conftest import WriteKernelspec
from .listed_kernels import NOBODY, Kernels, kernels_fixture  # noqa: F401 - a fixture
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import eventually

FIFTY = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(50)]
COLUMNS = ["KERNEL", "NAME", "IMAGE", "STATE", "CREATED", "OWNER", "FOLDER"]


# -- how often the engine is asked -------------------------------------------------------------


def test_ps_of_fifty_kernels_is_one_list_call(kernels: Kernels) -> None:
    for kernel_id in FIFTY:
        kernels.add(kernel_id)
    kernels.fake.calls.clear()
    done = command("ps")
    assert len(done.lines) == 1 + 50
    assert dict(kernels.fake.calls) == {"list_containers": 1}
    assert sorted(command("ps", "-q").lines) == FIFTY
    assert kernels.fake.calls["list_containers"] == 2


def test_stats_of_fifty_kernels_are_one_list_call(kernels: Kernels) -> None:
    """And two looks at each: CPU is what happened between them. They are taken at once."""
    most, now, lock = 0, 0, threading.Lock()

    def begin() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)

    def end() -> None:
        nonlocal now
        with lock:
            now -= 1

    for kernel_id in FIFTY:
        kernels.add(kernel_id)
    kernels.fake.calls.clear()
    kernels.fake.before["usage"], kernels.fake.after["usage"] = begin, end
    done = command("stats")
    assert len(done.lines) == 1 + 50
    assert dict(kernels.fake.calls) == {"list_containers": 1, "usage": 2 * 50}
    assert most > 1


def test_a_kernel_that_ends_while_it_is_measured_is_left_out(kernels: Kernels) -> None:
    ends, removed = kernels.add("ends"), kernels.add("removed")
    kernels.add("stays")

    first = threading.Lock()  # for whichever asks first: all are asked about at once

    def go() -> None:
        if kernels.fake.calls["usage"] >= 4 and first.acquire(blocking=False):  # the second look
            kernels.fake.signal(ends, signal.SIGKILL)
            kernels.fake.named(ends).ended.wait(10)
            kernels.fake.remove(removed)

    kernels.fake.before["usage"] = go
    done = command("stats", "--json")
    assert (done.code, done.stderr) == (0, "")
    assert "stays" in [each["kernel_id"] for each in done.json]
    kernels.fake.before.clear()
    assert [each["kernel_id"] for each in command("stats", "--json").json] == ["stays"]


# -- ps ----------------------------------------------------------------------------------------


def every_state(kernels: Kernels) -> None:
    kernels.add("created", run=False)
    kernels.add("runs")
    kernels.fake.pause(kernels.add("paused"))
    kernels.add("kept", keep=True, owner=NOBODY)
    let_go = kernels.add("let-go", keep=True)  # by a process that lives: this one
    kernels.record("let-go", let_go, "")
    adopted = kernels.add("adopted", keep=True, owner=NOBODY)
    kernels.record("adopted", adopted, own_lease().id)
    for name, script in (("failed", "exit 3"), ("killed", "kill -9 $$")):
        kernels.fake.named(kernels.add(name, argv=("sh", "-c", script))).ended.wait(10)


def test_each_state_has_its_word(kernels: Kernels) -> None:
    every_state(kernels)
    done = command("ps", "--all", "--json").json
    states = {each["kernel_id"]: each["state"] for each in done}
    assert states == {
        "created": "created",
        "runs": "running",
        "paused": "paused",
        "kept": "kept",
        "let-go": "kept",
        "adopted": "running",
        "failed": "ended",
        "killed": "ended",
    }
    owners = {each["kernel_id"]: (each["owner"] or {}).get("pid") for each in done}
    assert owners["adopted"] == owners["runs"] == os.getpid()
    assert owners["kept"] is owners["let-go"] is None
    assert {each["kernel_id"]: each["exit_code"] for each in done if each["exit_code"]} == {
        "failed": 3,
        "killed": 137,
    }
    rows = {line.split()[0]: line for line in command("ps", "-a").lines}
    assert "ended (exit code 3)" in rows["failed"]
    assert "ended (SIGKILL)" in rows["killed"]
    assert f" {os.getpid()} " in rows["runs"]
    shown = {each["kernel_id"] for each in command("ps", "--json").json}
    assert shown == states.keys() - {"failed", "killed"}


def test_others_are_shown_to_who_asks(kernels: Kernels) -> None:
    kernels.add("mine")
    kernels.add("other-place", place="another")
    kernels.add("other-user", place="another", uid=54321)
    assert command("ps", "-q").lines == ["mine"]
    everyone = {each["kernel_id"]: each for each in command("ps", "--everyone", "--json").json}
    assert everyone.keys() == {"mine", "other-place", "other-user"}
    assert everyone["other-user"]["user"] == "54321"
    assert everyone["other-user"]["owner"] is None
    header, *rows = command("ps", "--everyone").lines
    assert header.split() == [*COLUMNS[:-1], "USER", "FOLDER"]
    owners = {row.split()[0]: row[header.index("OWNER") :].split()[0] for row in rows}
    assert (owners["other-user"], owners["other-place"]) == ("?", "?")  # not: nobody
    assert {name for name, each in everyone.items() if each["is_ours"]} == {"mine"}


def test_a_table_is_whole_in_a_pipe_and_a_cell_plays_no_tricks(kernels: Kernels) -> None:
    folder = "/a" * 200
    kernels.add(FIFTY[7], folder=folder)
    kernels.add("tricks", folder="/x\x1b]0;title\x07[bold]")
    header, *rows = command("ps").lines
    assert header.split() == COLUMNS
    (row,) = (row for row in rows if row.startswith("00000007 "))
    assert row.split()[:4] == ["00000007", "contained", "an-image:1", "running"]
    assert row.endswith(folder)
    (row,) = (row for row in rows if row.startswith("tricks"))
    assert row.endswith("/x\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}[bold]")


def test_a_narrow_terminal_cuts_no_id_and_no_word_in_two() -> None:
    row = (FIFTY[3], "a-kernelspec-with-a-name", "ended (exit code 3)")
    out = io.StringIO()
    Console(file=out, width=70).print(make_table(("kernel", "name", "state"), [row]))
    _, first, *more = (line.split() for line in out.getvalue().splitlines())
    assert first[0] == FIFTY[3]
    assert re.fullmatch("a-kernelspec.*…", first[1])
    assert [*first[2:], *(word for line in more for word in line)] == row[2].split()


def test_where_nothing_runs_it_is_said(kernels: Kernels) -> None:
    for subcommand in ("ps", "stats"):
        done = command(subcommand)
        assert (done.code, done.stdout, done.stderr) == (0, "", "No kernels run here.\n")
        assert command(subcommand, "--json").json == []
    kernels.fake.named(kernels.add("over", argv=("true",))).ended.wait(10)
    done = command("ps")
    assert done.stdout == ""
    assert done.stderr.splitlines()[1:] == [
        "'jupyter container-kernel ps --all' shows 1 more, ended."
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "just now"),
        (-5, "just now"),
        (1, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (3 * 86400, "3 days ago"),
    ],
)
def test_a_time_as_people_say_it(seconds: float, words: str) -> None:
    assert ago(seconds) == words


# -- stats -------------------------------------------------------------------------------------


def test_stats_are_of_what_runs_and_was_named(kernels: Kernels) -> None:
    kernels.add("busy", argv=("sh", "-c", "while :; do :; done"))
    kernels.add("idle")
    kernels.add("never-started", run=False)
    done = {each["kernel_id"]: each for each in command("stats", "--json").json}
    assert done.keys() == {"busy", "idle"}
    assert done["busy"]["cpu_percent"] > 5
    assert done["idle"]["cpu_percent"] < done["busy"]["cpu_percent"]
    assert (done["idle"]["memory"], done["idle"]["memory_limit"]) == (2**25, 2**30)
    _, row = command("stats", "idle").lines
    assert row.split()[0] == "idle"
    assert "32 MiB" in row
    assert " 1 GiB" in row
    assert "3.1%" in row


# -- logs --------------------------------------------------------------------------------------


def test_a_log_goes_to_the_streams_that_it_came_from(kernels: Kernels) -> None:
    script = "echo one; echo two; echo bad >&2"
    kernels.fake.named(kernels.add("said", argv=("sh", "-c", script))).ended.wait(10)
    done = command("logs", "said")
    assert (done.code, done.stdout, done.stderr) == (0, "one\ntwo\n", "bad\n")
    for last in ("-n", "--tail"):
        assert command("logs", "said", last, "1").stdout == "two\n"
    assert command("logs", "said", "-f").stdout == "one\ntwo\n"  # it can say no more
    pieces = [json.loads(line) for line in command("logs", "said", "--json").lines]
    assert pieces == [
        {"stream": "stdout", "text": "one\ntwo\n"},
        {"stream": "stderr", "text": "bad\n"},
    ]


def test_a_log_is_followed_until_the_kernel_ends(kernels: Kernels) -> None:
    script = "echo one; trap 'echo two; exit 0' TERM; while :; do sleep 0.05; done"
    container = kernels.add("talks", argv=("sh", "-c", script))
    eventually(lambda: kernels.fake.logs(container, 1), "its first word")
    kernels.fake.after["output"] = lambda: kernels.fake.signal(container, signal.SIGTERM)
    done = command("logs", "--follow", "talks")
    assert (done.code, done.stdout) == (0, "one\ntwo\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\r\n", "plain\ttext\r\n"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b]0;title\x07a\x1b[2Jb\x1b[6nc", "abc"),
        ("bell\x07 back\x08space \x9b2J", "bell backspace 2J"),
        ("cut \x1b[3", "cut [3"),
        ("größer 🙂", "größer 🙂"),
    ],
)
def test_what_a_terminal_is_shown_of_a_log(text: str, shown: str) -> None:
    assert printable(text) == shown


# -- inspect -----------------------------------------------------------------------------------


def test_an_inspection_says_why_a_kernel_ended(kernels: Kernels) -> None:
    container = kernels.add("greedy")
    kernels.fake.oom("jupyter-kernel-greedy")
    kernels.fake.named("jupyter-kernel-greedy").ended.wait(10)
    done = command("inspect", "greedy", "--json").json
    assert done["state"] == "ended"
    assert done["why"] == "it ran out of memory (memory_limit is 1 GiB)"
    expected: dict[str, Any] = {
        "kernel_name": "contained",
        "image": "an-image:1",
        "transport": "ipc",
        "network": "none",
        "on_server_exit": "stop",
        "folder": "/notebooks",
        "command": ["sleep", "300"],
        "limits": {"memory": 2**30, "cpus": None, "pids": None, "shm_size": None},
    }
    assert expected.items() <= done.items()
    assert (done["phase"], done["ended"]) == (None, kernels.fake.inspect(container).finished_at)
    page = dict(line.split("  ", 1) for line in command("inspect", "greedy").lines)
    page = {title: words.strip() for title, words in page.items()}
    assert page["state"].startswith("ended ")
    assert "ran out of memory" in page["why"]
    gone = "its log; its home and /tmp were in memory and are gone. "
    assert page["left"].startswith(gone)
    has_it = page["left"].removeprefix(gone)
    assert has_it.endswith(f" {os.getpid()}, which has it, removes it")
    assert command("kill", "greedy").stderr.strip() == f"had ended already; {has_it}"
    kernels.fake.named(kernels.add("over", argv=("true",), owner=NOBODY)).ended.wait(10)
    (left,) = (line for line in command("inspect", "over").lines if line.startswith("left"))
    assert left.endswith(f"{gone}'jupyter container-kernel kill over' removes it")
    assert page["memory"] == "1 GiB at most"
    assert "record" not in page


@pytest.mark.docker
def test_no_command_gives_a_secret_away(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> None:
    kernelspec(spec={"env": {"TOKEN_OF_MINE": "hunter2"}})
    owner = start_owner()
    key = RecordStore().read(owner.kernel_id)["connection_info"]["key"]
    commands = [("inspect", owner.kernel_id), ("ps",), ("stats",), ("prune", "--dry-run")]
    for arguments in [*commands, *((*arguments, "--json") for arguments in commands)]:
        done = command(*arguments)
        assert done.code == 0
        assert key not in done.stdout + done.stderr
        assert "hunter2" not in done.stdout + done.stderr
    facts = command("inspect", owner.kernel_id, "--json").json
    assert (facts["phase"], facts["recorded"], facts["network"]) == ("running", True, "none")
    assert facts["owner"]["pid"] == owner.process.pid
    assert facts["limits"]["memory"] > 0
    assert len(facts["mounts"]) > 3
    page = command("inspect", owner.kernel_id).lines
    seen = [line.split("  ")[-1].strip() for line in page if "read-only" in line][1:]
    assert seen == [
        f"this machine's programs: {len(facts['mounts']) - 1} paths, read-only (--json lists them)",
        f"{facts['folder']}, read-only",
    ]
    owner.end()


# -- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("subcommand", ["ps", "stats", "logs", "inspect", "prune"])
def test_help_reads_like_a_page(subcommand: str) -> None:
    done = command(subcommand, "--help")
    assert (done.code, done.stderr) == (0, "")
    assert "--json" in done.stdout
    assert max(map(len, done.lines)) <= 80
