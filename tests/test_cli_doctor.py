"""``jupyter container-kernel doctor``: what works and what does not, a line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.diagnosis.engine import _confinement
from container_provisioner.diagnosis.image import _user
from container_provisioner.engine.base import EngineInfo, ImageInfo

from .command_line import command
from .conftest import IMAGE, IPYKERNEL, PLAIN_IMAGE, ROOT_IMAGE, WriteKernelspec
from .ends import left_below
from .listed_kernels import Kernels, kernels_fixture  # noqa: F401 - a fixture


def examine(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    ended = command("doctor", "--json", *arguments)
    return ended.code, json.loads(ended.stdout)


def worse(found: list[dict[str, Any]]) -> dict[str, str]:
    """What is not fine, by its subject."""
    return {
        finding["subject"]: f"{finding['outcome']}: {finding['says']}"
        for finding in found
        if finding["outcome"] != "ok"
    }


@pytest.mark.docker
def test_where_all_is_well(kernelspec: WriteKernelspec, runtime_dir: Path):
    """This host's own Python: nothing is named, nothing is left."""
    code, found = examine()
    assert (code, worse(found)) == (0, {})
    subjects = ["packages", "runtime folder", "server extension", "engine", "left behind"]
    subjects += ["settings", "transport", "kernel", "files"]
    assert [finding["subject"] for finding in found] == subjects
    says = {finding["subject"]: finding["says"] for finding in found}
    assert says["engine"].startswith("docker ")
    assert says["settings"].startswith("profile sandbox: network none, notebook's folder ro, ")
    assert says["transport"] == "ipc: the engine is on this host"
    assert says["kernel"].endswith(", in host environment")
    assert left_below(runtime_dir) == []


@pytest.mark.docker
def test_a_kernelspec_of_an_image_and_each_step_out_of_the_sandbox(kernelspec: WriteKernelspec):
    name = kernelspec(image=IMAGE, profile="dev", pids_limit=0, env={"TOKEN": "f00dcafe"})
    code, found = examine(name)
    assert code == 0
    assert [finding["says"] for finding in found if finding["subject"] == "policy"] == [
        "the kernel reaches what this machine reaches (network)",
        "nothing stops a fork bomb (pids_limit)",
    ]
    assert "f00dcafe" not in json.dumps(found)
    terminal = command("doctor", name)
    policy = "! policy: nothing stops a fork bomb (pids_limit)\n  → Set it, such as 512.\n"
    assert policy in terminal.stdout
    assert all(finding["cure"] for finding in found if finding["outcome"] == "note")
    assert f", in {IMAGE}\n" in terminal.stdout
    assert "✓ image: its user is 12345; 'install' finds python3 in it\n" in terminal.stdout


@pytest.mark.docker
@pytest.mark.parametrize(
    ("stanza", "subject", "words"),
    [
        ({"image": PLAIN_IMAGE}, "kernel", "The kernel died while it started"),
        ({"image": "nobody/has:this", "pull_policy": "never"}, "kernel", "not present"),
        ({"memory_limit": "many"}, "settings", "memory_limit"),
        ({"network": "host"}, "settings", "reach what listens on loopback"),
        ({"image": IMAGE, "env": {"HOME": "/proc"}}, "home", "cannot be written"),
    ],
    ids=["no kernel", "no image", "no size", "no such network", "no home"],
)
def test_what_does_not_work_is_one_line_and_exit_code_1(
    kernelspec: WriteKernelspec, stanza: dict[str, Any], subject: str, words: str
):
    code, found = examine(kernelspec(**stanza))
    assert code == 1
    problems = {each["subject"]: each["says"] for each in found if each["outcome"] == "problem"}
    assert list(problems) == [subject]
    assert set(worse(found)) <= {subject, "image"}
    assert words in problems[subject]


@pytest.mark.docker
@pytest.mark.parametrize(
    ("image", "code", "notes"),
    [
        (ROOT_IMAGE, 0, ["its user is root"]),
        (
            PLAIN_IMAGE,
            1,
            [
                "it names no user, which is root",
                "neither Jupyter in it nor 'install' finds a kernel",
            ],
        ),
    ],
    ids=["root", "plain"],
)
def test_what_an_image_does_not_fulfil(
    kernelspec: WriteKernelspec, image: str, code: int, notes: list[str]
):
    """Its kernel may run all the same; and what a kernel's last words do not say is said."""
    ended, found = examine(kernelspec(image=image))
    said = [finding for finding in found if finding["subject"] == "image"]
    assert ended == code
    assert [finding["says"] for finding in said] == notes
    assert all(finding["outcome"] == "note" and finding["cure"] for finding in said)


@pytest.mark.docker
def test_a_kernel_in_a_language_that_it_has_no_code_for(kernelspec: WriteKernelspec):
    name = kernelspec(argv=IPYKERNEL, spec={"language": "fortran"})
    code, found = examine(name)
    assert (code, worse(found)) == (0, {"files": "note: not tried: no code for fortran"})


def test_without_an_engine_the_rest_is_still_said(runtime_dir: Path):
    ended = command("--engine-url", "unix:///nowhere.sock", "doctor")
    assert ended.code == 1
    assert "✗ engine: No container engine answers. Tried: unix:///nowhere.sock" in ended.stdout
    assert "✓ packages: Python 3." in ended.stdout
    assert ended.stderr == ""


def test_a_package_that_is_too_old(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    metadata = tmp_path / "click-7.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: click\nVersion: 7.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", "unix:///nowhere.sock")
    _, found = examine()
    assert worse(found)["packages"] == "problem: click is 7.0 and has to be >=8.1"


def test_an_extension_that_was_disabled(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "jupyter_server_config.d"
    folder.mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path))
    extensions = {"ServerApp": {"jpserver_extensions": {"container_provisioner": False}}}
    (folder / "container_provisioner.json").write_text(json.dumps(extensions))
    monkeypatch.setenv("CONTAINER_PROVISIONER_ENGINE_URL", "unix:///nowhere.sock")
    _, found = examine()
    assert worse(found)["server extension"].startswith("note: not enabled")


def test_limits_that_an_engine_does_not_enforce():
    info = EngineInfo(
        name="docker",
        version="20.10",
        api_version="1.41",
        warnings=("WARNING: No swap limit support", "WARNING: bridge-nf-call-iptables is disabled"),
    )
    assert [(finding.subject, finding.says) for finding in _confinement(info)] == [
        ("seccomp", "the engine does not filter system calls"),
        ("limits", "a kernel may use swap beyond its memory_limit"),
    ]


@pytest.mark.parametrize(
    ("user", "notes"),
    [
        ("1000", []),
        ("1000:100", []),
        ("0:100", ["its user is root"]),
        ("jovyan", ["its user is a name, jovyan, which means what its /etc/passwd says"]),
        ("1000:users", ["its user is a name, 1000:users, which means what its /etc/passwd says"]),
    ],
)
def test_the_user_of_an_image(user: str, notes: list[str]):
    assert [finding.says for finding in _user(ImageInfo(id="x", user=user))] == notes


@pytest.mark.docker
@pytest.mark.parametrize("name", ["nobodys", "local"])
def test_names_that_are_no_kernelspec_of_ours(kernelspec: WriteKernelspec, name: str):
    """The rest is said all the same."""
    kernelspec("local", stanza=False)
    code, found = examine(name)
    assert code == 1
    assert {"packages", "engine"} < {finding["subject"] for finding in found}
    assert list(worse(found)) == ["kernelspec"]
    assert found[-1]["cure"] or "'jupyter container-kernel install'" in found[-1]["says"]


def test_a_runtime_folder_that_cannot_be_used(
    kernels: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/proc/none")
    code, found = examine()
    assert code == 1
    (problem,) = (finding for finding in found if finding["outcome"] == "problem")
    assert problem["subject"] == "runtime folder"
    assert problem["says"].endswith("/proc/none cannot be used (No such file or directory).")
    assert problem["cure"].startswith("Set JUPYTER_RUNTIME_DIR")
