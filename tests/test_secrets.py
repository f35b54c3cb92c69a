"""Which of the server's variables reach a kernel, and who else can read what does."""

from __future__ import annotations

import json
from typing import Any

import docker
import pytest

from .conftest import IMAGE, StartKernel
from .seen import seen

pytestmark = pytest.mark.docker

# What the container starts with. (ipykernel adds to os.environ; that is its own affair.)
VARIABLES = """
pairs = open("/proc/self/environ").read().split("\\0")
seen = dict(pair.split("=", 1) for pair in pairs if pair)
"""
ALWAYS = {"HOME", "HOSTNAME", "PATH", "TINI_KILL_PROCESS_GROUP", "USER"}


@pytest.fixture
def server_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a server's environment may hold."""
    variables = {
        "SECRET_TOKEN": "secret-of-the-server",
        "JAVA_HOME": "/opt/java",
        "PATH": "/opt/only-on-the-host:/usr/local/bin:/usr/bin:/bin",
        "JPY_API_TOKEN": "secret-of-the-hub",
        "HTTPS_PROXY": "http://user:secret@proxy.invalid",
        "PYTHONPATH": "/opt/only-on-the-host",
        "LD_LIBRARY_PATH": "/opt/only-on-the-host",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("LANG", "LANGUAGE", "TZ"):
        monkeypatch.delenv(name, raising=False)
    return variables


@pytest.mark.parametrize("stanza", [{}, {"image": IMAGE}], ids=["host", "image"])
async def test_nothing_of_the_servers_environment_reaches_the_kernel(
    start_kernel: StartKernel, server_environment: dict[str, str], stanza: dict[str, Any]
):
    """F9"""
    kernel = await start_kernel(**stanza)
    found = await seen(kernel, VARIABLES)
    assert found.keys() == ALWAYS
    assert not set(found.values()) & set(server_environment.values())
    assert (found["HOME"], found["USER"]) == ("/home/kernel", "kernel")


async def test_what_was_named_reaches_the_kernel(
    start_kernel: StartKernel, server_environment: dict[str, str]
):
    session = {"LANG": "C.UTF-8", "JPY_SESSION_NAME": "a.ipynb", "KERNEL_OPTION": "1"}
    kernel = await start_kernel(
        spec={"env": {"FROM_SPEC": "2", "FILLED_IN": "${JAVA_HOME}/bin"}},
        env={"FROM_TRAIT": "3"},
        env_passthrough=["AWS_*"],
        launch={"env": {**server_environment, **session, "AWS_REGION": "north"}},
    )
    found = await seen(kernel, VARIABLES)
    del found["PWD"]  # of the shell that has read the private file
    assert {name: value for name, value in found.items() if name not in ALWAYS} == {
        **session,
        "AWS_REGION": "north",
        "FROM_SPEC": "2",
        "FILLED_IN": "/opt/java/bin",
        "FROM_TRAIT": "3",
    }


async def test_inspecting_the_container_shows_no_secret(
    start_kernel: StartKernel,
    docker_client: docker.DockerClient,
    monkeypatch: pytest.MonkeyPatch,
):
    """F9: whoever may ask the engine can read the container's definition."""
    monkeypatch.setenv("KERNEL_TOKEN", "secret-1")
    monkeypatch.setenv("PASSED_TOKEN", "secret-2")
    kernel = await start_kernel(
        spec={"env": {"SPEC_TOKEN": "secret-3"}},
        env={"TRAIT_TOKEN": "secret-4 'quoted' \"twice\" $HOME `id`\n\\n ü"},
        env_passthrough=["PASSED_TOKEN"],
        manager={"transport_encryption": "required"},
    )
    found = await seen(kernel, VARIABLES)
    assert {name: value for name, value in found.items() if name.endswith("_TOKEN")} == {
        "KERNEL_TOKEN": "secret-1",
        "PASSED_TOKEN": "secret-2",
        "SPEC_TOKEN": "secret-3",
        "TRAIT_TOKEN": "secret-4 'quoted' \"twice\" $HOME `id`\n\\n ü",
    }
    inspected = json.dumps(docker_client.api.inspect_container(kernel.container_id))
    assert "secret" not in inspected
    assert kernel.manager.session.key.decode() not in inspected
    assert kernel.manager.curve_secretkey.decode() not in inspected
    assert kernel.manager.kernel_id in inspected


async def test_new_values_arrive_at_a_restart_in_the_same_container(start_kernel: StartKernel):
    kernel = await start_kernel(launch={"env": {"KERNEL_OPTION": "1"}})
    old = kernel.container_id
    await kernel.restart(env={"KERNEL_OPTION": "2"})
    assert (await seen(kernel, VARIABLES))["KERNEL_OPTION"] == "2"
    assert kernel.container_id == old
