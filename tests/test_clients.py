"""Programs that run notebooks and scripts: nothing in them knows about containers.

papermill, nbmake and nbval are in examples/, which test_documents.py runs.
"""

from __future__ import annotations

import asyncio
import html
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import pytest
import requests
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from .conftest import StartKernel, WriteKernelspec
from .ends import left_below
from .places import Place, place_fixture  # noqa: F401 - a fixture
from .server_process import eventually, free_port

pytestmark = pytest.mark.docker

# The container's host name, and the notebook's folder: there, and not writable.
WHERE = "import os, platform; print(platform.node(), os.getcwd(), os.access('.', os.W_OK))"


def seen(folder: Path) -> str:
    """What `WHERE` prints in a sandbox."""
    return f"kernel {folder} False\n"


def notebook(*cells: str, kernel: str) -> Any:
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
    )


def printed(book: Any) -> str:
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def run(
    program: str, *arguments: str, cwd: Path, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """One of the programs that are installed beside this Python, as a user starts it."""
    folder = Path(sys.executable).parent
    return subprocess.run(
        [str(folder / program), *arguments],
        cwd=cwd,
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )


@pytest.fixture
def files_left(runtime_dir: Path) -> Callable[[], list[Path]]:
    """Files in Jupyter's runtime directory: connection files, records, sockets."""
    return lambda: left_below(runtime_dir)


@pytest.fixture(params=["stanza", "default"])
def kernel(
    request: pytest.FixtureRequest, kernelspec: WriteKernelspec, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A kernelspec that names the provisioner, and one that does not, with ours as the default."""
    if request.param == "default":
        monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "container-provisioner")
    KernelProvisionerFactory.clear_instance()  # it reads the variable once
    yield kernelspec(stanza=request.param == "stanza")
    KernelProvisionerFactory.clear_instance()


@pytest.mark.parametrize("kernel", ["stanza"], indirect=True)
def test_jupyter_execute(kernel: str, folder: Path, files_left: Callable[[], list[Path]]):
    nbformat.write(notebook(WHERE, kernel=kernel), folder / "where.ipynb")
    done = run("jupyter", "execute", "where.ipynb", "--inplace", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert printed(nbformat.read(folder / "where.ipynb", as_version=4)) == seen(folder)
    assert files_left() == []


def test_nbclient(kernel: str, folder: Path, files_left: Callable[[], list[Path]]):
    book = notebook(WHERE, kernel=kernel)
    NotebookClient(book, resources={"metadata": {"path": str(folder)}}).execute()
    assert printed(book) == seen(folder)
    assert files_left() == []


@pytest.mark.parametrize("kernel", ["default"], indirect=True)
def test_jupyter_run_shuts_its_kernel_down_as_the_interpreter_ends(
    kernel: str, folder: Path, files_left: Callable[[], list[Path]]
):
    (folder / "where.py").write_text(WHERE)
    done = run("jupyter", "run", f"--kernel={kernel}", "where.py", cwd=folder)
    assert (done.returncode, done.stdout) == (0, seen(folder))
    # It does so in an atexit callback, when no pool of threads takes work any more.
    assert "Traceback" not in done.stderr
    assert files_left() == []


def test_jupyter_console_starts_a_kernel_and_ends_it(
    kernelspec: WriteKernelspec, folder: Path, files_left: Callable[[], list[Path]]
):
    arguments = ("console", f"--kernel={kernelspec()}", "--simple-prompt")
    done = run("jupyter", *arguments, cwd=folder, typed=f"{WHERE}\nexit\n")
    assert done.returncode == 0, done.stderr
    assert seen(folder) in done.stdout
    assert files_left() == []


def test_voila(kernelspec: WriteKernelspec, place: Place, files_left: Callable[[], list[Path]]):
    """A page for each visitor, from a kernel of its own; none is left when it has ended.

    It is installed here, because JupyterLab has a button more where it is.
    """
    nbformat.write(notebook(WHERE, kernel=kernelspec()), place.checkout / "where.ipynb")
    environment = {**place.environment, "JUPYTER_PATH": os.environ["JUPYTER_PATH"]}
    in_folder = {"cwd": place.checkout, "env": environment}
    subprocess.run(["pip", "install", "--quiet", "voila>=0.5.8"], check=True, **in_folder)
    address = f"http://127.0.0.1:{free_port()}/"
    process = subprocess.Popen(
        ["voila", "where.ipynb", "--no-browser", f"--port={urlsplit(address).port}"],
        stderr=subprocess.DEVNULL,
        **in_folder,
    )
    try:
        page = eventually(lambda: page_at(address), "voila to serve the notebook")
        assert seen(place.checkout) in html.unescape(page)
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert files_left() == []


def page_at(address: str) -> str | None:
    """None before anybody listens there."""
    try:
        answer = requests.get(address, timeout=60)
    except requests.ConnectionError:
        return None
    answer.raise_for_status()
    return answer.text


def test_an_error_in_a_cell_is_the_cells_and_ends_the_kernel(
    kernelspec: WriteKernelspec, folder: Path, files_left: Callable[[], list[Path]]
):
    book = notebook("1 / 0", "print('not reached')", kernel=kernelspec())
    with pytest.raises(CellExecutionError) as raised:
        NotebookClient(book, resources={"metadata": {"path": str(folder)}}).execute()
    assert (raised.value.ename, raised.value.evalue) == ("ZeroDivisionError", "division by zero")
    assert book.cells[1].outputs == []
    assert files_left() == []


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("b'x' * 2**30", "it ran out of memory (memory_limit is 200 MiB)."),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "it was ended by SIGKILL from outside or by itself (exit code 137).",
        ),
    ],
    ids=["memory", "killed"],
)
def test_a_kernel_that_dies_in_a_run_says_why_in_one_line(
    kernelspec: WriteKernelspec,
    folder: Path,
    files_left: Callable[[], list[Path]],
    cell: str,
    reason: str,
):
    """F29: memory is named when it was memory, and only then."""
    book = notebook(cell, kernel=kernelspec(memory_limit="200m"))
    nbformat.write(book, folder / "dies.ipynb")
    done = run("jupyter", "execute", "dies.ipynb", cwd=folder)
    assert done.returncode == 1
    assert "nbclient.exceptions.DeadKernelError: Kernel died" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "The kernel died:" in line]
    assert len(lines) == 1, done.stderr
    assert reason in lines[0]
    assert files_left() == []


async def test_a_kernel_that_nobody_polled_says_why_it_died_when_it_is_shut_down(
    start_kernel: StartKernel, caplog: pytest.LogCaptureFixture
):
    """`jupyter run` never asks whether its kernel lives."""
    kernel = await start_kernel()
    kernel.client.execute("import os; os._exit(3)")
    await kernel.provisioner._container.wait()
    await kernel.manager.shutdown_kernel()
    died = [record.message for record in caplog.records if "The kernel died:" in record.message]
    assert len(died) == 1
    assert "it ended with exit code 3." in died[0]


@pytest.mark.parametrize("stanza", [{}, {"profile": "dev", "transport": "tcp"}], ids=["ipc", "tcp"])
async def test_a_second_client_connects_by_the_connection_file(
    start_kernel: StartKernel, folder: Path, stanza: dict[str, str]
):
    """As `jupyter console --existing` does; after a restart too, when tcp has other ports."""
    kernel = await start_kernel(**stanza)
    await kernel.restart()
    await kernel.run("x = 5")
    (folder / "shows.py").write_text("print(x)")
    existing = f"--existing={kernel.manager.connection_file}"
    done = await asyncio.to_thread(run, "jupyter", "run", existing, "shows.py", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    assert await kernel.provisioner.poll() is None


def test_a_process_that_forgets_its_kernel_leaves_nothing(
    kernelspec: WriteKernelspec,
    folder: Path,
    files_left: Callable[[], list[Path]],
    our_containers: Callable[[], list[str]],
):
    (folder / "forgets.py").write_text(
        "from jupyter_client.manager import start_new_kernel\n"
        f"manager, client = start_new_kernel(kernel_name={kernelspec()!r})\n"
        "print(manager.kernel_id)"
    )
    done = run("python", "forgets.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    kernel_id = done.stdout.strip()
    assert not [name for name in our_containers() if kernel_id in name]
    assert files_left() == []
