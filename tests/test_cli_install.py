"""``jupyter container-kernel install``: this host's own kernels, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from container_provisioner.cli.command import command as group
from container_provisioner.errors import ConfigurationError
from container_provisioner.kernelspecs.drafts import Draft
from container_provisioner.kernelspecs.writing import Staging

from .command_line import command
from .conftest import WriteKernelspec
from .ends import left_below, until
from .installs import (
    STACKS_IMAGE,
    execute,
    install,
    installed,
    prefix_fixture,  # noqa: F401 - a fixture
)

FIELDS = {
    "argv": ["none", "{connection_file}"],
    "display_name": "",
    "language": "",
    "metadata": {"kernel_provisioner": {"provisioner_name": "local-provisioner", "config": {}}},
}
DENO = str(Path(sys.executable).parent / "deno")

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


def test_who_installs_at_the_same_time_sees_what_was_first(prefix: Path):
    one = Draft(name="both", fields=FIELDS, resources={})
    with Staging(prefix) as first, Staging(prefix) as second:
        folder = first.place(one, replace=False)
        assert second.place(one, replace=False) == folder  # the same
        with pytest.raises(ConfigurationError, match="Another kernelspec 'both' is in "):
            second.place(one.having(memory_limit="1g"), replace=False)
    assert one.is_in(folder)
    assert [path.name for path in prefix.iterdir()] == ["both"]


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


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory", "lots"], "'--memory': memory_limit has to be a size"),
        (["--profile", "none"], "'sandbox', 'dev'"),
        (["--network", "host"], "network 'host' would let the kernel reach"),
        (["--network", "none", "--transport", "tcp"], "needs a network"),
        (["--set", "cpu_limit"], "'cpu_limit' is not NAME=VALUE"),
        (["--set", "cpu_limit=many"], "'--set': cpu_limit has to be a number, 0 or more"),
        (["--set", "gpu=all"], "no setting 'gpu'. Did you mean 'gpus'?"),
        (["--set", "cpu=2"], "no setting 'cpu'. Did you mean 'cpu_limit'?"),
        (["--set", "such=1"], "There are: allow_plaintext, allow_root, "),
        (["--set", "gpus=1", "--set", "gpus=2"], "gpus is given twice"),
        (["--set", "memory_limit=1g", "--memory", "2g"], "by --set and by an option of its own"),
        (["--set", "env=TOKEN=secret"], 'env has to be a mapping, written as JSON: {"NAME"'),
        (["--set", 'env={"TOKEN": 1}'], 'env has to be a mapping, written as JSON: {"NAME"'),
        (["--set", "image=x"], "The image is the argument IMAGE"),
        (["--set", 'extra_create_options={"Image": "x"}'], "may not set Image"),
        (["--kernel", "python3"], "needs an IMAGE"),
        (["image", "--from", "python3"], "--from names a kernelspec of this host"),
        (["--user"], "exclude each other"),
        (["--name", "a b"], "cannot be a kernelspec's name"),
        (["--swarm"], "do not have this host's Python: name an IMAGE"),
        (["--set", 'placement_constraints=["node.role==worker"]'], "give --swarm, too"),
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
    assert "secret" not in refused.stderr


def test_any_setting_can_be_set(prefix: Path):
    """As JSON, as text, or as a variable's value; of variables the values are told to nobody."""
    given = {
        "user": ("1000", "1000"),
        "cpu_limit": ("1.5", 1.5),
        "gpus": ("device=0,1", "device=0,1"),
        "allow_root": ("false", False),
        "mounts": ("/usr/share:/data,/usr/lib:/more", ["/usr/share:/data", "/usr/lib:/more"]),
        "env_passthrough": ('["AWS_*"]', ["AWS_*"]),
        "env": ('{"TOKEN": "secret"}', {"TOKEN": "secret"}),
    }
    options = [word for name, (text, _) in given.items() for word in ("--set", f"{name}={text}")]
    ended = install(prefix, "--no-check", "--json", "--memory", "1g", *options)
    assert ended.code == 0, ended.stderr
    config = {"memory_limit": "1g"} | {name: value for name, (_, value) in given.items()}
    stanza = installed(prefix)["python3-container"]["metadata"]["kernel_provisioner"]
    assert stanza["config"] == config
    assert ended.json[0]["config"] == config | {"env": ["TOKEN"]}
    assert "secret" not in ended.stdout + ended.stderr
    assert "The values of env are in kernel.json" in ended.stderr


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


@pytest.mark.docker
def test_a_shell_completes_images(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch):
    known = ShellComplete(group, {}, "jupyter-container-kernel", "")
    for words in (["install"], ["build", "--base"]):
        found = known.get_completions(words, STACKS_IMAGE[:-3])
        assert STACKS_IMAGE in [item.value for item in found]
        assert all(item.value.startswith(STACKS_IMAGE[:-3]) for item in found)
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", f"unix://{runtime_dir}/none.sock")
    assert known.get_completions(["install"], "") == []


def test_a_shell_completes_kernelspecs_and_settings(prefix: Path, kernelspec: WriteKernelspec):
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
    known = ShellComplete(group, {}, "jupyter-container-kernel", "")
    found = known.get_completions(["install", "--set"], "env")
    assert [(item.value, bool(item.help)) for item in found] == [
        ("env=", True),
        ("env_passthrough=", True),
    ]
