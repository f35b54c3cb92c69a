"""The fixture `container_kernel`, as a project's own pytest run has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from .conftest import IMAGE, shared_folder

TESTS = """
import pytest

def test_runs(container_kernel):
    answer = container_kernel.run("import sys, os; x = 1; [sys.executable, os.getcwd()]")
    print("ran", answer.text, container_kernel.container_id)

def test_has_a_kernel_of_its_own(container_kernel):
    print("again", container_kernel.run("'x' in globals()").text)
"""


def run_pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As somebody types it in a project of their own, with no other plugin than this one."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-sq", *arguments],
        cwd=project,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "container_provisioner.pytest_plugin",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def project(folder: Path, tests: str, **files: str) -> Path:
    (folder / "test_project.py").write_text(tests)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


@pytest.fixture
def shared(runtime_dir: Path):
    with shared_folder() as path:
        yield path


@pytest.mark.docker
def test_each_test_has_a_kernel_in_the_projects_folder(shared: Path):
    done = run_pytest(project(shared, TESTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ran ['{sys.executable}', '{shared}']" in done.stdout
    assert "again False" in done.stdout


@pytest.mark.docker
def test_image_engine_and_scope_are_options_and_settings(shared: Path):
    """The command line wins over the file; what the project's own fixture says wins over both."""
    ini = "[pytest]\ncontainer_kernel_image = none/such:1\ncontainer_kernel_scope = module\n"
    conftest = (
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def container_kernel_settings():\n"
        "    return {'memory_limit': '300m', 'env': {'GREETING': 'hello'}}\n"
    )
    tests = TESTS + (
        "def test_settings(container_kernel):\n"
        "    print(container_kernel.run('import os; os.environ[\"GREETING\"]').text)\n"
    )
    url = "unix:///var/run/docker.sock"
    place = project(shared, tests, pytest_ini=ini, conftest_py=conftest)
    done = run_pytest(
        place, "--container-kernel-image", IMAGE, "--container-kernel-engine", "docker"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'/usr/local/bin/python" in done.stdout
    assert "again True" in done.stdout
    assert "'hello'" in done.stdout
    done = run_pytest(place, "--container-kernel-engine", f"{url}.not")
    assert done.returncode == 1
    assert f"{url}.not" in done.stdout
    done = run_pytest(place, "--container-kernel-scope", "ever")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: container_kernel_scope is 'ever'")


@pytest.mark.docker
def test_a_notebook_is_tested_in_one_line(shared: Path):
    v4 = nbformat.v4
    for name, source in (("right", "assert 1 + 1 == 2"), ("wrong", "1 / 0")):
        notebook = v4.new_notebook(cells=[v4.new_code_cell(source)])
        (shared / f"{name}.ipynb").write_text(v4.writes(notebook))
    tests = "".join(
        f"def test_{name}(container_kernel): container_kernel.run_notebook('{name}.ipynb')\n"
        for name in ("right", "wrong")
    )
    done = run_pytest(project(shared, tests))
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "Cell 1 of wrong.ipynb raised ZeroDivisionError: division by zero" in done.stdout


def test_who_does_not_use_it_pays_nothing(tmp_path: Path):
    """Neither imports nor a changed outcome; what it adds to is the list of fixtures."""
    tests = (
        "import sys\n"
        "def test_imports():\n"
        "    heavy = {'docker', 'zmq', 'jupyter_client', 'traitlets', 'tornado', 'nbformat'}\n"
        "    assert heavy.isdisjoint(name.split('.')[0] for name in sys.modules)\n"
        "    ours = {name for name in sys.modules if name.startswith('container_provisioner')}\n"
        "    assert ours == {'container_provisioner', 'container_provisioner.pytest_plugin'}\n"
    )
    done = run_pytest(
        project(tmp_path, tests), "--strict-config", "--strict-markers", "-W", "error"
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_finds_it_by_its_entry_point(pytestconfig: pytest.Config):
    """This very run has it, beside pytest-docker and all others."""
    assert pytestconfig.pluginmanager.has_plugin("container-provisioner")
    assert pytestconfig.getini("container_kernel_image") == ""
