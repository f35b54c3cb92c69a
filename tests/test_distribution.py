"""What is uploaded to an index, and that it works where nothing else is: with what is newest, and
with the oldest versions of the dependencies that pyproject.toml allows."""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .environments import CHECKOUT, Environment, make_environment
from .server_process import eventually, jupyter_server

PACKAGE = CHECKOUT / "container_provisioner"

# As in a notebook: a loop runs, and a blocking manager is used in it.
IN_A_LOOP = """
import asyncio
from jupyter_client.manager import KernelManager

async def main():
    try:
        KernelManager(kernel_name="absent").start_kernel(cwd=".")
    except Exception as exc:
        print(type(exc).__name__)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Readable for everybody, as environments are in which kernels run."""
    with shared_folder() as path:
        yield path


@pytest.fixture(scope="module")
def distributions(folder: Path) -> Path:
    """As `python -m build` makes them, but with the hatchling that is here."""
    target = folder / "dist"
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target)]
    subprocess.run([*build, str(CHECKOUT)], check=True, timeout=120, capture_output=True)
    return target


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    """Built from the sdist, and so what the sdist lacks is missing in it."""
    return next(distributions.glob("*.whl"))


@pytest.fixture(scope="module")
def newest(folder: Path, wheel: Path) -> Environment:
    return make_environment(folder / "newest", wheel)


@pytest.fixture(scope="module")
def oldest(folder: Path, wheel: Path) -> Environment:
    """Each dependency as old as pyproject.toml allows; what those need in turn is the newest.

    Where the oldest has no wheel for this Python, it is the oldest that has one.
    """
    lowest = ("--resolution=lowest-direct", "--requirements=pyproject.toml", "--extra=server")
    return make_environment(folder / "oldest", wheel, *lowest)


def test_indexes_accept_them(distributions: Path) -> None:
    files = sorted(str(path) for path in distributions.iterdir())
    assert len(files) == 2
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    name = f"container_provisioner-{version('container-provisioner')}"
    with zipfile.ZipFile(wheel) as archive:
        found = {path for path in archive.namelist() if not path.startswith(f"{name}.dist-info/")}
    code = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    images = {path for path in (CHECKOUT / "images").rglob("*") if path.is_file()}
    extension = "etc/jupyter/jupyter_server_config.d/container_provisioner.json"
    assert found == {
        *(str(path.relative_to(CHECKOUT)) for path in code),
        *(f"container_provisioner/{path.relative_to(CHECKOUT)}" for path in images),
        f"{name}.data/data/{extension}",
    }
    # What is there is not all code: these are looked for by name.
    package = Path("container_provisioner")
    for needed in ("py.typed", "warm/standby.py", "server/event_schemas/kernel_lifecycle/v1.yaml"):
        assert str(package / needed) in found


def test_the_sdist_has_what_git_has(distributions: Path) -> None:
    """So that a distribution can build and test it, without git."""
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        files = {Path(member.name) for member in archive if member.isfile()}
    found = {str(path.relative_to(path.parts[0])) for path in files} - {"PKG-INFO"}
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT, text=True
    )
    in_git = {name for name in listed.splitlines() if (CHECKOUT / name).is_file()}
    for_maintainers = (".ci/", ".github/", ".dockerignore")
    assert found == {name for name in in_git if not name.startswith(for_maintainers)}


@pytest.mark.docker
@pytest.mark.parametrize("versions", ["newest", "oldest"])
def test_the_quickstart_works(versions: str, request: pytest.FixtureRequest, folder: Path) -> None:
    """The README's commands, in an environment that has the wheel and what it needs."""
    environment: Environment = request.getfixturevalue(versions)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    with own_jupyter():
        with tempfile.TemporaryDirectory(dir=folder) as notebooks:
            path = Path(notebooks, "notebook.ipynb")
            path.parent.chmod(0o755)
            nbformat.write(notebook, path)
            environment.run("jupyter", "container-kernel", "install")
            execute = ("jupyter", "execute", "--kernel_name=python3-container", "--inplace")
            environment.run(*execute, "notebook.ipynb", cwd=notebooks)
            cell = nbformat.read(path, as_version=4).cells[0]
        assert [output.text for output in cell.outputs] == ["42\n"]


@pytest.mark.docker
def test_the_oldest_versions_start_interrupt_restart_and_reattach(
    oldest: Environment, unused_tcp_port: int
) -> None:
    # jupyter_server 2.14 does not say which port 0 has become.
    serve = partial(jupyter_server, python=oldest.python, port=unused_tcp_port)
    with own_jupyter() as runtime, shared_folder() as notebooks:
        write_kernelspec(runtime, "keep", on_server_exit="keep")
        assert "✓ packages" in oldest.run("jupyter", "container-kernel", "doctor").stdout
        write_kernelspec(runtime, "absent", image="absent:1", pull_policy="never")
        assert oldest.run("python", "-c", IN_A_LOOP, cwd=notebooks).stdout == "ImageMissing\n"
        with serve(runtime, notebooks) as server:
            kernel = server.start("keep")
            with server.channels(kernel) as channels:
                assert channels.run("answer = 42; print(answer)") == "42\n"
                channels.execute("import time\nprint('sleeps', flush=True)\ntime.sleep(600)")
                channels.until("stream", text="sleeps\n")
                assert server.call("POST", f"kernels/{kernel}/interrupt").status_code == 204
                channels.until("error", ename="KeyboardInterrupt")
            assert server.call("POST", f"kernels/{kernel}/restart").status_code == 200
            with server.channels(kernel) as channels:
                assert channels.run("answer").startswith("NameError")
                channels.run("answer = 43")
            server.stop(signal.SIGKILL)
        with serve(runtime, notebooks) as server:
            eventually(lambda: server.lines("adopted", kernel), "the kernel to be adopted")
            with server.channels(kernel) as channels:
                assert channels.run("print(answer)") == "43\n"
            assert server.delete(kernel) == 204
