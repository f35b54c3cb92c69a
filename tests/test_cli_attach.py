"""``attach``: a console on a running kernel, in a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pexpect
import pytest

from .command_line import command
from .conftest import WriteKernelspec
from .owners import Owner, StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import eventually, jupyter_server

pytestmark = pytest.mark.docker

ATTACH = [sys.executable, "-m", "container_provisioner", "attach"]


@pytest.fixture
def owner(kernelspec: WriteKernelspec, start_owner: StartOwner) -> Iterator[Owner]:
    kernelspec()
    owner = start_owner()
    yield owner
    owner.end()


def console(kernel_id: str, *program: str) -> pexpect.spawn:
    """In a terminal, with jupyter_console's prompt for tests."""
    command, *arguments = program or ATTACH
    return pexpect.spawn(
        command,
        [*arguments, kernel_id],
        env={**os.environ, "JUPYTER_CONSOLE_TEST": "1", "TERM": "dumb"},
        encoding="utf-8",
        timeout=60,
    )


def test_a_console_on_a_servers_kernel(
    kernelspec: WriteKernelspec, runtime_dir: Path, folder: Path
) -> None:
    """Both are front ends; an interrupt works; no way out of it ends the kernel."""
    with jupyter_server(runtime_dir, folder) as server:
        kernel_id = server.start(kernelspec())
        files = sorted(runtime_dir.glob("*"))
        with server.channels(kernel_id) as page:
            page.run("x = 20")
            for leave in ("exit", "quit()", "\x04"):
                shell = console(kernel_id[:8])
                shell.expect(r"In \[\d+\]: ")
                assert sorted(runtime_dir.glob("*")) == files
                if leave == "exit":
                    shell.sendline("x += 1; print('x is', x)")
                    shell.expect("x is 21")
                    shell.expect(r"In \[\d+\]: ")
                    shell.sendline("import time; print('be' + 'gins', flush=True); time.sleep(300)")
                    shell.expect("begins")
                    shell.sendintr()
                    shell.expect("KeyboardInterrupt")
                    shell.expect(r"In \[\d+\]: ")
                shell.send(leave if leave == "\x04" else f"{leave}\n")
                shell.expect(pexpect.EOF)
                shell.close()
                assert shell.exitstatus == 0
            assert page.run("print(x)") == "21\n"
        server.clear_away(kernel_id)


def test_code_in_a_pipe(owner: Owner) -> None:
    def attach(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ATTACH, owner.kernel_id], input=code, capture_output=True, text=True, timeout=60
        )

    done = attach("import sys\nprint('out', x)\nprint('err', file=sys.stderr)\nx + 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out 1\n2\n", "err\n")
    done = attach("print(x)\n1 / 0")
    assert (done.returncode, done.stdout) == (1, "1\n")
    assert "ZeroDivisionError" in done.stderr
    done = command("attach", owner.kernel_id, "--run", "print(x)")
    assert (done.code, done.stdout, done.stderr) == (0, "1\n", "")


def test_code_whose_outputs_are_for_a_program(owner: Owner) -> None:
    """Each as a notebook would have it, a line each, the error too."""
    code = "print('out', x)\nfrom IPython.display import display\ndisplay(2)\n3"
    done = command("attach", owner.kernel_id, "--json", "--run", code)
    assert (done.code, done.stderr) == (0, "")
    outputs = [json.loads(line) for line in done.lines]
    assert outputs[:2] == [
        {"output_type": "stream", "name": "stdout", "text": "out 1\n"},
        {"output_type": "display_data", "data": {"text/plain": "2"}, "metadata": {}},
    ]
    count = outputs[2].pop("execution_count")
    assert count > 0
    assert outputs[2:] == [
        {"output_type": "execute_result", "data": {"text/plain": "3"}, "metadata": {}}
    ]
    done = command("attach", owner.kernel_id, "--json", "--run", "1 / 0")
    assert (done.code, done.stderr) == (1, "")
    (error,) = (json.loads(line) for line in done.lines)
    assert (error["output_type"], error["ename"]) == ("error", "ZeroDivisionError")
    assert error["traceback"]


def test_an_interrupt_of_code_in_a_pipe(owner: Owner) -> None:
    process = subprocess.Popen(
        [*ATTACH, owner.kernel_id, "--run", "print('begins', flush=True)\nwhile True: pass"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert command("attach", owner.kernel_id, "--run", "print(x)").stdout == "1\n"


def test_code_that_ends_the_kernel(owner: Owner) -> None:
    done = command("attach", owner.kernel_id, "--run", "import os; os._exit(7)")
    assert (done.code, done.stdout) == (8, "")
    assert "The kernel ended before the code had: it ended with exit code 7" in done.stderr


def test_code_that_ends_a_kernel_which_is_started_again(
    kernelspec: WriteKernelspec, runtime_dir: Path, folder: Path
) -> None:
    with jupyter_server(runtime_dir, folder) as server:
        kernel_id = server.start(kernelspec())
        done = command("attach", kernel_id, "--run", "import os; os._exit(7)")
        assert done.code == 8
        assert "The kernel ended before the code had: " in done.stderr
        again = partial(command, "attach", kernel_id, "--run", "print(1)")
        eventually(lambda: again().stdout == "1\n", "it to be started again")
        server.clear_away(kernel_id)


def test_what_cannot_be_attached_to(owner: Owner) -> None:
    owner.container.pause()
    done = command("attach", owner.kernel_id, "--run", "x")
    assert (done.code, done.stdout) == (8, "")
    assert "docker unpause" in done.stderr
    owner.container.unpause()
    assert command("attach", "no-such-kernel", "--run", "x").code == 10
    shell = console(owner.kernel_id, *ATTACH, "--json")  # of what would it be?
    shell.expect("--json needs code")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 2
    without = "import sys; sys.modules['jupyter_console.app'] = None; "
    main = "from container_provisioner.cli import main; main()"
    shell = console(owner.kernel_id, sys.executable, "-c", without + main, "attach")
    shell.expect("pip install jupyter_console")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 2
