"""A kernel that waited in a pool is, for the code in its cells, one that has just been started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from .conftest import IMAGE, IPYKERNEL, shared_folder
from .pools import OpenPool, is_warm, warm_pool_fixture  # noqa: F401 - a fixture
from .state import differences, state_of

pytestmark = pytest.mark.docker

KERNEL_VARIABLES = {"JPY_SESSION_NAME": "work/a b.ipynb", "KERNEL_USERNAME": "it's Ada"}

# All that differs, and why that is no matter: only in a warm kernel, only in a cold one.
DIFFERENCES = {
    # How the process began, which the kernel's own files in /proc keep. Programs that it starts
    # get what is in os.environ.
    "command": (["/run/kernel/standby.py"], []),
    "environ at first": ([], [f"{name}={value}" for name, value in KERNEL_VARIABLES.items()]),
    # What finds the module for -m.
    "modules": ([], ["runpy"]),
    # For a restart in place, and for another process that takes the kernel over.
    "private": (["record", "session.json", "standby.py"], []),
}


@pytest.mark.parametrize(
    ("stanza", "argv"),
    [
        ({}, []),
        ({"image": IMAGE}, []),
        ({"profile": "dev", "transport": "tcp"}, []),
        ({}, ["-X", "utf8", "-W", "ignore", "-O", "-m", "ipykernel"]),
    ],
    ids=["host", "image", "dev-tcp", "options"],
)
async def test_state_is_that_of_a_cold_kernel(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    stanza: dict[str, Any],
    argv: list[str],
):
    for name, value in {**KERNEL_VARIABLES, "PASSED_1": "1", "HIDDEN": "2", "LC_ALL": "C"}.items():
        monkeypatch.setenv(name, value)
    pool = await warm_pool(
        argv=["python", *(argv or ["-m", "ipykernel_launcher"]), "-f", "{connection_file}"],
        spec={"env": {"FROM_SPEC": "3", "TEMPLATE": "for ${KERNEL_USERNAME}"}},
        env={"FROM_TRAIT": "$HOME 'as it is'\n"},
        env_passthrough=["PASSED_*"],
        **stanza,
    )
    warm = await pool.start()
    await pool.close()
    cold = await pool.start()
    assert (is_warm(warm, docker_client), is_warm(cold, docker_client)) == (True, False)
    ours, theirs = await state_of(warm), await state_of(cold)

    own, other = ours.pop("own"), theirs.pop("own")
    assert own["key"] == own["key in the file"] == warm.manager.session.key.decode()
    assert not set(own.values()) & set(other.values())
    assert differences(ours, theirs) == DIFFERENCES
    assert ours["environ"] == ours["environ of a child"]


EXTENSION = """
import os
def load_ipython_extension(shell):
    shell.user_ns["seen"] = [("extension", os.environ.get("KERNEL_USERNAME"))]
"""
STARTUP = """
import os
seen.append(("start-up file", os.environ.get("KERNEL_USERNAME"), __session__))
print("printed by the start-up file")
"""
CONFIG = """
c.InteractiveShellApp.extensions = ["ours"]
c.InteractiveShellApp.exec_lines = ["seen.append(('line', os.environ.get('KERNEL_USERNAME')))"]
c.HistoryManager.hist_file = ":memory:"  # others wait with the same profile
"""


@pytest.fixture
def profile() -> Iterator[Path]:
    """A user's IPython folder, with code that runs at the start."""
    with shared_folder() as path:
        files = {
            "extensions/ours.py": EXTENSION,
            "profile_default/startup/first.py": STARTUP,
            "profile_default/ipython_kernel_config.py": CONFIG,
        }
        for name, text in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        for below in (path, *path.rglob("*")):
            below.chmod(0o777)  # IPython does not take a folder that it cannot write
        yield path


@pytest.mark.parametrize("start", ["warm", "cold", "warm-restarted"])
async def test_what_runs_at_the_start_runs_once_and_sees_whose_kernel_it_is(
    warm_pool: OpenPool,
    docker_client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    profile: Path,
    start: str,
):
    pool = await warm_pool(
        argv=[*IPYKERNEL, "--IPKernelApp.exec_files=last.py"],
        mounts=[f"{profile}:/profile:rw"],
        env={"IPYTHONDIR": "/profile", "PYTHONPATH": "/profile/extensions"},
    )
    # Put there while the container waits: such code runs when the kernel starts, not before.
    (pool.folder / "last.py").write_text("import os\nseen.append(('file', os.getcwd()))\n")
    for name, value in KERNEL_VARIABLES.items():
        monkeypatch.setenv(name, value)
    if start == "cold":
        await pool.close()
    kernel = await pool.start()
    assert is_warm(kernel, docker_client) == (start != "cold")
    if start == "warm-restarted":
        await kernel.restart()
    name = KERNEL_VARIABLES["KERNEL_USERNAME"]
    assert await kernel.run("print(*seen, sep='\\n')") == (
        f"{('extension', name)}\n"
        f"{('start-up file', name, KERNEL_VARIABLES['JPY_SESSION_NAME'])}\n"
        f"{('line', name)}\n"
        f"{('file', str(pool.folder))}\n"
    )
    assert await kernel.run("%who") == "Interactive namespace is empty.\n"


PLOT = """
%matplotlib inline
import matplotlib.pyplot as plt
plt.plot([1, 2]);
"""


async def test_a_plot_is_shown(warm_pool: OpenPool, docker_client: docker.DockerClient):
    pool = await warm_pool()
    kernel = await pool.start()
    assert is_warm(kernel, docker_client)
    shown: list[dict[str, Any]] = []
    for code in (PLOT, PLOT.replace("%matplotlib inline", "")):
        await kernel.client.execute_interactive(code, timeout=60, output_hook=shown.append)
    plots = [message["content"]["data"] for message in shown if "data" in message["content"]]
    assert [sorted(plot) for plot in plots] == [["image/png", "text/plain"]] * 2
