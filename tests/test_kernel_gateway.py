"""Kernels in containers under a real Jupyter Kernel Gateway, which loads no server extensions."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import docker
import nbformat
import pytest
import requests

from container_provisioner import labels

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .gateway_process import Gateway, kernel_gateway
from .server_process import LEGACY, TIMEOUT, TOKEN, V1, eventually, jupyter_server
from .test_kernel_services import culled_after

pytestmark = pytest.mark.docker

StatesOf = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        write_kernelspec(runtime, "tcp", profile="dev", transport="tcp")
        write_kernelspec(runtime, "culled", spec=culled_after(1))
        options = (
            "--JupyterWebsocketPersonality.list_kernels=True",
            "--MappingKernelManager.cull_interval=1",
            "--MappingKernelManager.cull_idle_timeout=3600",
            "--KernelRestarter.time_to_dead=0.5",
        )
        with kernel_gateway(runtime, folder, *options) as gateway:
            yield gateway


@pytest.fixture
def states_of(docker_client: docker.DockerClient) -> StatesOf:
    def states(kernel_id: str) -> list[str]:
        found = docker_client.containers.list(
            all=True, filters={"label": f"{labels.KERNEL_ID}={kernel_id}"}, ignore_removed=True
        )
        return [str(container.status) for container in found]

    return states


@pytest.mark.parametrize(("name", "subprotocol"), [("ipc", V1), ("tcp", LEGACY)])
def test_the_life_of_a_kernel(
    gateway: Gateway, states_of: StatesOf, name: str, subprotocol: str
) -> None:
    """Started, listed, used, interrupted, restarted, killed and restarted, deleted."""
    kernel_id = gateway.start(name)
    assert [model["id"] for model in gateway.call("GET", "kernels").json()] == [kernel_id]
    with gateway.channels(kernel_id, subprotocol) as channels:
        assert channels.subprotocol == subprotocol
        assert channels.run("x = 1; print(x)") == "1\n"
        request = channels.execute("while True: pass")
        channels.until("status", request, execution_state="busy")
        assert gateway.call("POST", f"kernels/{kernel_id}/interrupt").status_code == 204
        assert channels.until("execute_reply", request)["ename"] == "KeyboardInterrupt"
    restarted = gateway.call("POST", f"kernels/{kernel_id}/restart")
    assert (restarted.status_code, restarted.json()["id"]) == (200, kernel_id)
    with gateway.channels(kernel_id, subprotocol) as channels:
        assert channels.run("x").startswith("NameError")
        channels.execute("import os; os.kill(os.getpid(), 9)")
        channels.until("status", execution_state="restarting")
    with gateway.channels(kernel_id, subprotocol) as channels:
        assert channels.run("print(1)") == "1\n"
    assert states_of(kernel_id) == ["running"]
    assert gateway.delete(kernel_id) == 204
    assert states_of(kernel_id) == []


def test_a_caller_may_give_a_kernel_variables(gateway: Gateway) -> None:
    """Those that the gateway passes on; its own stay with it."""
    given = {"KERNEL_USERNAME": "ada", "SECRET": "not-allowed"}
    kernel_id = gateway.start("ipc", env=given)
    with gateway.channels(kernel_id) as channels:
        said = channels.run("import os; print(os.environ)")
    assert "'KERNEL_USERNAME': 'ada'" in said
    assert "'KERNEL_GATEWAY': '1'" in said
    assert "not-allowed" not in said
    assert TOKEN not in said
    assert gateway.delete(kernel_id) == 204


def test_an_idle_kernel_is_culled(gateway: Gateway, states_of: StatesOf) -> None:
    kernel_id = gateway.start("culled")
    gone = lambda: gateway.call("GET", f"kernels/{kernel_id}").status_code == 404  # noqa: E731
    eventually(gone, "the kernel to be culled")
    assert states_of(kernel_id) == []


def test_a_server_may_have_its_kernels_there(gateway: Gateway) -> None:
    """A Jupyter Server beside it: our extension leaves alone what is the gateway's."""
    with own_jupyter() as runtime, shared_folder() as folder:
        options = (f"--gateway-url={gateway.url}", f"--GatewayClient.auth_token={TOKEN}")
        with jupyter_server(runtime, folder, *options) as server:
            assert server.lines("Kernels are another server's here")
            kernel_id = server.start("ipc")
            with server.channels(kernel_id, LEGACY) as channels:
                assert channels.run("import platform; print(platform.node())") == "kernel\n"
            assert server.call("POST", f"kernels/{kernel_id}/restart").status_code == 200
            assert server.delete(kernel_id) == 204
    assert gateway.call("GET", "kernels").json() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_gateway_that_ends_leaves_nothing(states_of: StatesOf, signum: int) -> None:
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        with kernel_gateway(runtime, folder) as gateway:
            kernel_id = gateway.start("ipc")
            assert states_of(kernel_id) == ["running"]
            gateway.stop(signum)
            eventually(lambda: states_of(kernel_id) == [], "the container to be removed")


def test_cells_that_answer_requests() -> None:
    """Its other mode: a notebook is a web service, and its kernel is in a container."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("import platform"),
            nbformat.v4.new_code_cell("# GET /where\nprint(platform.node())"),
        ],
        metadata={"kernelspec": {"name": "ipc", "display_name": "", "language": "python"}},
    )
    with own_jupyter() as runtime, shared_folder() as folder:
        write_kernelspec(runtime, "ipc")
        nbformat.write(notebook, folder / "service.ipynb")
        options = ("--api=kernel_gateway.notebook_http", "--seed_uri=service.ipynb")
        with kernel_gateway(runtime, folder, *options) as gateway:
            headers = {"Authorization": f"token {TOKEN}"}
            reply = requests.get(f"{gateway.url}where", headers=headers, timeout=TIMEOUT)
    assert (reply.status_code, reply.text) == (200, "kernel\n")
