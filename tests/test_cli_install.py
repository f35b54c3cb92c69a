"""``jupyter container-kernel install``: any kernel from any image, and this host's own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .command_line import Ended, command
from .conftest import ENTRYPOINT_IMAGE, IMAGE, IPYKERNEL, PLAIN_IMAGE, WriteKernelspec
from .ends import left_below, until

STACKS_IMAGE = "container-provisioner-test/stacks:1"  # as the Jupyter docker-stacks are built
DENO = str(Path(sys.executable).parent / "deno")


@pytest.fixture
def prefix(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Jupyter looks, in this test."""
    path = runtime_dir.parent / "prefix"
    monkeypatch.setenv("JUPYTER_PATH", f"{path}/share/jupyter:{os.environ['JUPYTER_PATH']}")
    return path


def install(prefix: Path, *arguments: str) -> Ended:
    return command("install", "--prefix", str(prefix), *arguments)


def installed(prefix: Path) -> dict[str, Any]:
    """Each kernelspec's kernel.json. Nothing may be beside their folder."""
    kernels = prefix / "share" / "jupyter" / "kernels"
    assert [path.name for path in kernels.parent.glob("*")] in (["kernels"], [])
    return {path.name: json.loads((path / "kernel.json").read_text()) for path in kernels.glob("*")}


def execute(name: str, code: str, folder: Path) -> str:
    """By ``jupyter execute``: what the notebook's only cell printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, folder / "notebook.ipynb")
    subprocess.run(
        [
            *(sys.executable, "-m", "jupyter", "execute", f"--kernel_name={name}"),
            *("--output=executed", str(folder / "notebook.ipynb")),
        ],
        check=True,
        timeout=120,
    )
    cell = nbformat.read(folder / "executed.ipynb", as_version=4).cells[0]
    return "".join(output.text for output in cell.outputs)


# -- this host's kernels -----------------------------------------------------------------------


@pytest.mark.docker
def test_two_commands_to_a_notebook_in_a_container(prefix: Path, folder: Path):
    ended = install(prefix)
    where = prefix / "share" / "jupyter" / "kernels" / "python3-container"
    assert (ended.code, ended.stdout) == (0, f"Installed kernelspec python3-container in {where}\n")
    assert ended.stderr.startswith("Starting a kernel of python3-container…\npython 3.")
    assert ended.stderr.endswith(" s.\n")
    code = "import os, sys; print(os.listdir('/sys/class/net'), os.getuid() != 0, sys.prefix)"
    assert execute("python3-container", code, folder) == f"['lo'] True {sys.prefix}\n"


@pytest.mark.docker
def test_the_same_again_changes_nothing(prefix: Path, runtime_dir: Path):
    options = ("--memory", "512m", "--workspace", "rw", "--warm", "0", "--keep", "--json")
    first = install(prefix, *options)
    assert first.code == 0
    (told,) = json.loads(first.stdout)
    assert told.pop("answer")["language"] == "python"
    assert told == {
        "name": "python3-container",
        "display_name": "Python 3 (ipykernel) in a container",
        "folder": str(prefix / "share/jupyter/kernels/python3-container"),
        "changed": True,
        "config": {
            "memory_limit": "512m",
            "workspace": "rw",
            "warm_pool_size": 0,
            "on_server_exit": "keep",
        },
    }
    folder = Path(told["folder"])
    before = {path: path.stat() for path in [folder, *folder.iterdir()]}
    assert {"kernel.json", "logo-64x64.png"} <= {path.name for path in before}
    again = install(prefix, *options[:-1])
    assert (again.code, again.stdout) == (
        0,
        f"Kernelspec python3-container is in {folder} already. Nothing was changed.\n",
    )
    assert {path: path.stat() for path in [folder, *folder.iterdir()]} == before
    assert left_below(runtime_dir) == []


def test_another_kernelspec_of_that_name_stays_unless_it_is_to_be_replaced(prefix: Path):
    assert install(prefix, "--no-check", "--memory", "1g").code == 0
    before = installed(prefix)
    refused = install(prefix, "--no-check", "--memory", "2g")
    assert refused.code == 2
    assert "Another kernelspec 'python3-container' is in" in refused.stderr
    assert "--replace" in refused.stderr
    assert installed(prefix) == before
    assert install(prefix, "--no-check", "--memory", "2g", "--replace").code == 0
    stanza = installed(prefix)["python3-container"]["metadata"]["kernel_provisioner"]
    assert stanza["config"] == {"memory_limit": "2g"}


@pytest.mark.docker
@pytest.mark.parametrize("is_there", [False, True])
def test_a_kernel_that_does_not_answer_is_not_installed(
    prefix: Path, runtime_dir: Path, kernelspec: WriteKernelspec, is_there: bool
):
    kernelspec("dies", argv=["sh", "-c", "echo last words; exit 3"], stanza=False)
    if is_there:
        assert install(prefix, "--name", "mine", "--no-check").code == 0
    before = installed(prefix)
    refused = install(prefix, "--from", "dies", "--name", "mine", "--replace")
    assert (refused.code, refused.stdout) == (8, "")
    *_, line = refused.stderr.splitlines()
    assert line.startswith("Error: No kernel of 'mine' answered, and nothing was changed.")
    assert line.endswith("Last output: last words")
    assert "Traceback" not in refused.stderr
    assert installed(prefix) == before
    assert prefix.exists() == is_there
    assert left_below(runtime_dir) == []


@pytest.mark.docker
def test_a_kernel_that_speaks_tcp_only(prefix: Path, kernelspec: WriteKernelspec):
    """F36: it is told so, and its stanza has it, in a network that has no way out."""
    argv = [DENO, "jupyter", "--kernel", "--conn", "{connection_file}"]
    fields = {"language": "typescript", "interrupt_mode": "message", "metadata": {}}
    kernelspec("deno", argv=argv, spec=fields)
    ended = install(prefix, "--from", "deno")
    assert ended.code == 0
    assert "It did not come up over ipc. Trying tcp…\ntypescript " in ended.stderr
    assert ended.stderr.endswith("Its messages travel over tcp: it does not speak ipc.\n")
    made = {
        "argv": argv,
        "display_name": "deno in a container",
        "language": "typescript",
        "interrupt_mode": "message",
        "metadata": {
            "kernel_provisioner": {
                "provisioner_name": "container-provisioner",
                "config": {"transport": "tcp"},
            }
        },
    }
    assert installed(prefix) == {"deno-container": made}
    again = install(prefix, "--from", "deno")
    assert again.stdout.endswith("already. Nothing was changed.\n")


@pytest.mark.docker
@pytest.mark.parametrize(
    ("image", "variables"),
    [("", {"JPY_PARENT_PID": "7"}), (STACKS_IMAGE, {"CONTAINER_PROVISIONER_USER": "4242:4242"})],
    ids=["F10", "F35"],
)
def test_what_would_end_a_kernel_that_is_not_shielded(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, image: str, variables: dict[str, str]
):
    """F10: a parent that it cannot see. F35: no home that its uid could write."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ended = install(prefix, *([image, "--kernel", "python3"] if image else []))
    assert (ended.code, len(installed(prefix))) == (0, 1), ended.stderr


@pytest.mark.docker
async def test_ctrl_c_during_the_check_leaves_nothing(
    prefix: Path, runtime_dir: Path, kernelspec: WriteKernelspec
):
    kernelspec("mute", argv=["sleep", "300"], stanza=False)
    arguments = ["install", "--from", "mute", "--prefix", str(prefix)]
    process = subprocess.Popen(
        [sys.executable, "-m", "container_provisioner", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    sockets = "container-provisioner/*/sockets"
    await until(lambda: list(runtime_dir.glob(sockets)) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.rstrip().splitlines() == [
        "Starting a kernel of mute-container…",
        "Interrupted: nothing was installed.",
    ]
    assert not prefix.exists()
    assert left_below(runtime_dir) == []


# -- images ------------------------------------------------------------------------------------

FACTS = """
import os, sys
print(sys.prefix, f"{os.getuid()}:{os.getgid()}", *map(os.environ.get, ("STACK", "TAKEN")))
"""


@pytest.mark.docker
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


@pytest.mark.docker
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


@pytest.mark.docker
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
        "Error: The image has several kernelspecs: bash, python3. Choose with --kernel, or take "
        "--all."
    )
    unknown = install(prefix, STACKS_IMAGE, "--kernel", "R")
    assert (unknown.code, unknown.stdout) == (2, "")
    assert "no kernelspec 'R', but: bash, python3." in unknown.stderr
    assert not prefix.exists()
    both = install(prefix, STACKS_IMAGE, "--kernel", "bash", "--kernel", "python3", "--no-check")
    assert both.code == 0
    assert sorted(installed(prefix)) == ["bash-stacks-1", "python3-stacks-1"]


@pytest.mark.docker
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
    assert b"'R' is not one of 'bash', 'python3', 'all'" in shown
    assert list(installed(prefix)) == ["bash-stacks-1"]


@pytest.mark.docker
def test_an_image_without_a_kernel(prefix: Path):
    """F34"""
    refused = install(prefix, PLAIN_IMAGE)
    assert (refused.code, refused.stdout, prefix.exists()) == (6, "", False)
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"Error: Image {PLAIN_IMAGE!r} has no kernel: there is no kernelspec")


@pytest.mark.docker
def test_an_image_that_there_is_not(prefix: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONTAINER_PROVISIONER_PULL_POLICY", "never")
    refused = install(prefix, "no-such-image:1")
    assert (refused.code, refused.stdout, prefix.exists()) == (5, "", False)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: Image 'no-such-image:1' is not present")


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory", "lots"], "memory_limit"),
        (["--profile", "none"], "'sandbox', 'dev'"),
        (["--network", "host"], "network 'host' would let the kernel reach"),
        (["--network", "none", "--transport", "tcp"], "needs a network"),
        (["--kernel", "python3"], "need an IMAGE"),
        (["image", "--from", "python3"], "--from names a kernelspec of this host"),
        (["--user"], "exclude each other"),
        (["--name", "a b"], "cannot be a kernelspec's name"),
        (["--from", "nobodys"], "There is no kernelspec 'nobodys'"),
        (["--from", "contained"], "is started by 'container-provisioner' already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(
    prefix: Path, kernelspec: WriteKernelspec, arguments: list[str], words: str
):
    """Refused before anything is asked, started or written."""
    kernelspec("contained")
    refused = install(prefix, *arguments)
    assert (refused.code, refused.stdout, prefix.exists()) == (2, "", False)
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert words in last


def test_no_engine(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", f"unix://{tmp_path}/none.sock")
    refused = install(prefix)
    assert (refused.code, refused.stdout, prefix.exists()) == (4, "", False)
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: No container engine answers.")


def test_a_folder_that_cannot_be_written(runtime_dir: Path):
    refused = command("install", "--prefix", "/proc", "--no-check")
    assert refused.code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: Kernelspecs cannot be written to /proc/share/jupyter/kernels (")
    assert "--user" in line


def test_a_kernelspec_that_jupyter_will_not_take_is_no_silent_success(
    prefix: Path, runtime_dir: Path
):
    elsewhere = runtime_dir.parent / "elsewhere"
    unseen = install(elsewhere, "--no-check")
    assert unseen.code == 0
    assert f"Set JUPYTER_PATH={elsewhere}/share/jupyter where it runs." in unseen.stderr
    assert install(prefix, "--no-check").stderr == ""
    hidden = command("install", "--user", "--no-check", "--memory", "1g")
    assert hidden.code == 0
    assert f"Jupyter takes the kernelspec python3-container in {prefix}" in hidden.stderr


def test_a_shell_completes_kernelspecs(prefix: Path, kernelspec: WriteKernelspec):
    kernelspec("contained")
    words = {"COMP_WORDS": "jupyter-container-kernel install --from con", "COMP_CWORD": "3"}
    completed = subprocess.run(
        [Path(sys.executable).with_name("jupyter-container-kernel")],
        env={**os.environ, **words, "_JUPYTER_CONTAINER_KERNEL_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert completed.stdout == "plain,contained\n"
