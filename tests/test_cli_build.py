"""``jupyter container-kernel build``, with a real engine."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import docker
import pytest

from .builds import COMMAND, image_fixture, is_there, run, write  # noqa: F401 - a fixture
from .command_line import command
from .conftest import IMAGE, PLAIN_IMAGE, StartKernel
from .connect_proxy import connect_proxy
from .own_engine import own_engine

pytestmark = pytest.mark.docker


def nameless(client: docker.DockerClient, word: str) -> list[str]:
    """The images without a name in whose making the word occurs."""
    found = []
    for item in client.api.images(filters={"dangling": True}):
        try:
            if any(word in step["CreatedBy"] for step in client.api.history(item["Id"])):
                found.append(item["Id"])
        except docker.errors.NotFound:  # somebody else's, gone by now
            continue
    return found


# -- what comes with us ------------------------------------------------------------------------


async def test_python_is_built_through_the_hosts_proxy_of_which_nothing_is_in_it(
    image: str, docker_client: docker.DockerClient, tmp_path: Path, start_kernel: StartKernel
):
    """The proxy's login, its address and the authorities: not in the history, the variables, the
    definition or a file of the image, nor in what the command wrote."""
    marker = uuid.uuid4().hex
    bundle = tmp_path / "authorities.pem"
    trusted = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"
    bundle.write_text(f"# {marker}\n{Path(trusted).read_text()}")
    with connect_proxy(f"me:password-{marker}") as proxy:
        built = run(
            *("build", "python", "--tag", image),
            HTTPS_PROXY=proxy.url,
            PIP_CERT=str(bundle),
        )
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith(f"Built {image} (")
    assert "pypi.org:443" in proxy.asked
    secrets = [marker.encode(), f"127.0.0.1:{proxy.port}".encode(), b"host-ca.crt"]
    assert marker not in built.stdout + built.stderr
    # The engine's whole answer: layers as tars, the configuration with variables and history.
    rest = b""
    for chunk in docker_client.images.get(image).save():
        assert not [word for word in secrets if word in rest + chunk]
        rest = chunk[-200:]
    facts = docker_client.api.inspect_image(image)
    assert not [word for word in secrets if word.decode() in json.dumps(facts)]
    assert facts["Config"]["User"] == "1000:1000"
    assert nameless(docker_client, "host-ca.crt") == []
    kernel = await start_kernel(image=image)
    assert await kernel.run("import sys; sys.prefix") == "'/opt/kernel'"
    await kernel.manager.shutdown_kernel(now=True)


PLOT = """
import matplotlib.pyplot, numpy, sys
matplotlib.pyplot.plot(numpy.arange(9.0) ** 2)
matplotlib.pyplot.show()
print(sys.prefix)
"""


async def test_scipy_is_built_and_installed_at_once(
    image: str,
    tmp_path: Path,
    runtime_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_kernel: StartKernel,
):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))  # where kernelspecs go
    done = await asyncio.to_thread(command, "build", "scipy", "--tag", image, "--install", "--json")
    assert done.code == 0, done.stderr
    assert re.search("^Step 7 of 14: pip install -r requirements.txt$", done.stderr, re.MULTILINE)
    assert "host-ca" not in done.stderr
    result = done.json
    (told,) = result.pop("installed")
    assert (result["image"], result["source"]) == (image, "images/scipy of this package")
    (spec,) = (tmp_path / "share" / "jupyter" / "kernels").glob("*/kernel.json")
    assert (told["folder"], told["answer"]["language"]) == (str(spec.parent), "python")
    stanza = json.loads(spec.read_text())["metadata"]["kernel_provisioner"]
    assert told["config"] == stanza["config"] == {"image": image}
    kernel = await start_kernel(image=image)
    shown: list[Any] = []
    await kernel.run(PLOT, output_hook=shown.append)
    assert [m["content"]["text"] for m in shown if m["msg_type"] == "stream"] == ["/opt/kernel\n"]
    (plot,) = (m["content"]["data"] for m in shown if m["msg_type"] == "display_data")
    assert base64.b64decode(plot["image/png"]).startswith(b"\x89PNG")
    await kernel.manager.shutdown_kernel(now=True)


def test_a_base_that_cannot_be_had_is_one_error_with_what_was_tried(image: str):
    failed = run("build", "python", "--tag", image, "--base", "127.0.0.1:9/none:1")
    assert failed.returncode == 5
    error = failed.stderr.splitlines()[-1]
    assert error.startswith(f"Error: Image '{image}' could not be built: it needs a base image.")
    assert "127.0.0.1:9/none:1 is not on the engine and could not be pulled (" in error
    assert "with --base: an image with Python 3.10 or newer" in error
    assert error.endswith("Without --base, Debian's Python stands in where there is no registry.")
    assert failed.stdout == ""


def test_a_base_that_a_dockerfile_names_and_that_cannot_be_had(image: str, tmp_path: Path):
    failed = command("build", write(tmp_path, "FROM 127.0.0.1:9/none:1"), "--tag", image)
    assert (failed.code, failed.stdout) == (5, "")
    error = failed.stderr.splitlines()[-1]
    assert "could not be built: step 1 of 2, 'FROM 127.0.0.1:9/none:1', " in error
    assert "'ARG BASE=127.0.0.1:9/none:1' and 'FROM ${BASE}', and name another with --base" in error


# -- a user's folder ---------------------------------------------------------------------------


def test_a_folder_is_built_and_told_of_as_json(
    image: str, docker_client: docker.DockerClient, tmp_path: Path
):
    folder = write(
        tmp_path,
        *(f"FROM {PLAIN_IMAGE}", "ARG WORD"),
        # The engine knows the proxies' variables without an ARG.
        'RUN test "$WORD" = of-the-shell && test "$HTTPS_PROXY" = http://proxy.invalid:3128',
    )
    built = run(
        *("build", folder, "--tag", image, "--build-arg", "WORD", "--network", "none", "--json"),
        WORD="of-the-shell",
        HTTPS_PROXY="http://proxy.invalid:3128",
    )
    assert built.returncode == 0, built.stderr
    result = json.loads(built.stdout)
    facts = docker_client.api.inspect_image(image)
    assert result == {
        "image": image,
        "id": facts["Id"],
        "size": facts["Size"],
        "base": "",
        "source": "Dockerfile",
    }
    assert built.stderr.splitlines() == [
        f"Building {image} from Dockerfile",
        f"Step 1 of 4: FROM {PLAIN_IMAGE}",
        "Step 2 of 4: ARG WORD",
        'Step 3 of 4: RUN test "$WORD" = of-the-shell && '
        'test "$HTTPS_PROXY" = http://proxy.invalid:3128',
        "Step 4 of 4: noting that this command has built it",
    ]
    assert "proxy.invalid:3128" not in json.dumps([facts["Config"]["Env"]])


def test_the_image_that_had_the_name_goes_when_nobody_needs_it(
    image: str, docker_client: docker.DockerClient, tmp_path: Path
):
    images = docker_client.images

    def build(content: str, tag: str = image) -> str:
        (tmp_path / "content").write_text(content)
        folder = write(tmp_path, "FROM scratch", "COPY content /", 'CMD ["none"]')
        done = command("build", folder, "--tag", tag, "--json")
        assert done.code == 0, done.stderr
        return str(done.json["id"])

    def known(image_id: str) -> bool:
        try:
            return bool(images.get(image_id))
        except docker.errors.ImageNotFound:
            return False

    first = build("1")
    assert build("1") == first
    assert known(first)
    second = build("2")
    assert (known(first), known(second)) == (False, True)
    container = docker_client.containers.create(image)
    third = build("3")
    assert known(second)  # a container has it
    container.remove()
    images.get(third).tag(f"{image}-too")
    build("4")
    assert known(third)  # it has another name
    images.remove(f"{image}-too")
    # Not by this command, though upon an image of its making and with that name.
    write(tmp_path, f"FROM {image}", "LABEL by=somebody")
    theirs, _ = images.build(path=str(tmp_path), tag=f"{image}-theirs", rm=True)
    build("5", f"{image}-theirs")
    assert known(theirs.id)
    for left in (second, theirs.id, f"{image}-theirs"):
        images.remove(left)


def test_a_conda_environment_is_built_by_the_bases_conda(
    image: str, docker_client: docker.DockerClient, tmp_path: Path
):
    """No registry has to be there for this: a command of that name stands in for conda."""
    conda = (
        'echo "$@" >/build/asked; mkdir -p /opt/kernel/bin; cp environment.yml /opt/kernel;'
        ' cp /build/asked /opt/kernel; ln -s "$(command -v python3)" /opt/kernel/bin/python'
    )
    (tmp_path / "conda").write_text(f"#!/bin/sh\nset -e\n{conda}\n")
    base_folder = tmp_path / "base"
    base_folder.mkdir()
    (tmp_path / "conda").rename(base_folder / "conda")
    base = f"{image}-conda"
    (base_folder / "Dockerfile").write_text(
        f"FROM {IMAGE}\nUSER 0\nCOPY conda /usr/local/bin/conda\n"
        "RUN chmod +x /usr/local/bin/conda && rm -rf /build\n"
    )
    project = tmp_path / "project"
    project.mkdir()
    (project / "environment.yml").write_text("dependencies:\n- gdal\n")
    try:
        assert run("build", str(base_folder), "--tag", base).returncode == 0
        built = run("build", str(project), "--tag", image, "--base", base)
        assert built.returncode == 0, built.stderr
        output = docker_client.containers.run(
            image, ["cat", "/opt/kernel/asked", "/opt/kernel/environment.yml"], remove=True
        )
        asked, *environment = output.decode().splitlines()
        assert asked == "env create --prefix /opt/kernel --file environment.yml"
        assert environment == ["dependencies:", "- gdal"]
    finally:
        docker_client.images.remove(image, force=True)
        docker_client.images.remove(base, force=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "is neither a folder nor one of bash, python, r, scipy"),
        (["python", "--tag", "Not A Name"], "'Not A Name' cannot be the name of an image"),
        (["python", "--build-arg", "NOT_IN_THIS_SHELL"], "neither NAME=VALUE nor a variable"),
        (["{folder}"], "nothing to build an image from"),
        (["{folder}/with", "--base", "x"], "no line 'ARG BASE=…'"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_done(
    tmp_path: Path, arguments: list[str], says: str
):
    (tmp_path / "with").mkdir()
    write(tmp_path / "with", "FROM scratch")
    failed = run("build", *(argument.format(folder=tmp_path) for argument in arguments))
    assert (failed.returncode, failed.stdout) == (2, "")
    assert says in failed.stderr


# -- when it fails -----------------------------------------------------------------------------


def test_a_full_disk_is_one_clear_message(tmp_path: Path):
    """On an engine with little room: the context has some of it, and the layer no more."""
    (tmp_path / "large").write_bytes(os.urandom(40 * 2**20))
    write(tmp_path, "FROM scratch", "COPY large /large")
    with own_engine(disk="64m") as engine:
        failed = run("--engine-url", engine.url, "build", str(tmp_path), "--tag", "too-large")
        client = docker.APIClient(base_url=engine.url, version="1.41")
        assert (client.images(all=True), client.containers(all=True)) == ([], [])
        client.close()
    assert failed.returncode == 5
    error = failed.stderr.splitlines()[-1]
    assert error.startswith("Error: Image 'too-large' could not be built: step 2 of 3, 'COPY")
    assert "the engine's disk is full. 'docker system df'" in error


def test_ctrl_c_in_a_build_leaves_nothing(
    image: str, docker_client: docker.DockerClient, tmp_path: Path
):
    word = uuid.uuid4().hex
    folder = write(tmp_path, f"FROM {PLAIN_IMAGE}", f"RUN : {word}", f"RUN sleep 60; : {word}")
    ended = interrupted(["build", folder, "--tag", image], when="Step 3 of 4")
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1:] == [f"Interrupted: {image} was not built."]
    assert not is_there(docker_client, image)
    assert nameless(docker_client, word) == []
    assert not [c for c in docker_client.api.containers(all=True) if word in c["Command"]]


def interrupted(arguments: list[str], *, when: str) -> subprocess.CompletedProcess[str]:
    """Ctrl-C at that line."""
    command = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stderr is not None
    seen = ""
    for line in command.stderr:
        seen += line
        if when in line:
            break
    command.send_signal(signal.SIGINT)
    stdout, stderr = command.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, command.returncode, stdout, seen + stderr)
