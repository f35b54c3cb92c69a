"""What happens to kept kernels while no server runs, and what the next one says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from container_provisioner import labels

from .conftest import own_jupyter, shared_folder, write_kernelspec
from .ends import left_below
from .own_engine import own_engine
from .server_process import Server, eventually, jupyter_server

pytestmark = pytest.mark.docker
as_root = pytest.mark.skipif(os.getuid() != 0, reason="an engine of one's own needs root")

Serve = Callable[..., Server]


@pytest.fixture
def runtime() -> Iterator[Path]:
    with own_jupyter() as runtime:
        yield runtime


@pytest.fixture
def serve(runtime: Path) -> Iterator[Serve]:
    with shared_folder() as folder, ExitStack() as stack:

        def serve(**environment: str) -> Server:
            options = ("--KernelRestarter.time_to_dead=0.5",)
            return stack.enter_context(jupyter_server(runtime, folder, *options, **environment))

        write_kernelspec(runtime, "keep", on_server_exit="keep")
        write_kernelspec(runtime, "files", on_server_exit="keep", profile="dev", transport="ipc")
        yield serve


def started(server: Server, name: str = "keep") -> str:
    """A kernel in which ``x`` is 1."""
    kernel_id = server.start(name, path="")
    with server.channels(kernel_id) as channels:
        assert channels.run("x = 1") == ""
    return kernel_id


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def left_alone(serve: Serve, name: str = "keep", **environment: str) -> str:
    """A kernel in which ``x`` is 1, and whose server was killed."""
    server = serve(**environment)
    kernel_id = started(server, name)
    kill(server)
    return kernel_id


def of_kernels(runtime: Path) -> list[str]:
    """Files of kernels; a server's own are not meant."""
    return [
        path.name
        for path in left_below(runtime)
        if not path.name.startswith(("jpserver", "jupyter_cookie"))
    ]


def container_of(client: docker.DockerClient, kernel_id: str) -> Container:
    label = f"{labels.KERNEL_ID}={kernel_id}"
    (found,) = client.containers.list(all=True, filters={"label": label})
    return found


KILLED = "it was ended by SIGKILL from outside or by itself (exit code 137)"
REMOVED = "its container was removed from outside"


def test_the_next_server_says_what_happened_to_each(
    serve: Serve, runtime: Path, docker_client: docker.DockerClient
) -> None:
    """F12, F33: adopts what lives, replaces nothing."""
    first = serve()
    killed, removed, paused, alive = (started(first) for _ in range(4))
    kill(first)
    container_of(docker_client, killed).kill()
    container_of(docker_client, removed).remove(force=True)
    asleep = container_of(docker_client, paused)
    asleep.pause()

    second = serve()
    assert sorted(model["id"] for model in second.call("GET", "kernels").json()) == sorted(
        [paused, alive]
    )
    for kernel_id, why in ((killed, KILLED), (removed, REMOVED)):
        (line,) = second.lines("ended while no server ran", kernel_id)
        assert why in line
    assert second.model(paused)["reason"].startswith("It is paused")
    asleep.unpause()
    for kernel_id in (paused, alive):
        with second.channels(kernel_id) as channels:
            assert channels.run("print(x)") == "1\n"
        assert second.delete(kernel_id) == 204
    assert of_kernels(runtime) == []


def test_a_container_that_may_hold_files_is_left_to_the_user(
    serve: Serve, runtime: Path, docker_client: docker.DockerClient
) -> None:
    kernel_id = left_alone(serve, "files")
    container = container_of(docker_client, kernel_id)
    container.kill()
    second = serve()
    (line,) = second.lines("may hold files")
    assert f"docker rm {container.id[:12]}" in line
    assert second.call("GET", "kernels").json() == []
    assert container_of(docker_client, kernel_id).status == "exited"
    assert of_kernels(runtime) == []
    container.remove()


def test_a_kernel_that_dies_after_its_adoption_is_restarted(
    serve: Serve, docker_client: docker.DockerClient
) -> None:
    """F30: not alive for ever."""
    kernel_id = left_alone(serve)
    second = serve()
    with second.channels(kernel_id) as channels:
        container_of(docker_client, kernel_id).kill()
        channels.until("status", execution_state="restarting")
    with second.channels(kernel_id) as channels:
        assert channels.run("x").startswith("NameError")
    assert KILLED in second.model(kernel_id)["reason"]
    assert second.delete(kernel_id) == 204


@as_root
@pytest.mark.parametrize("live_restore", [True, False], ids=["live-restore", "no live-restore"])
def test_the_engine_is_restarted_while_no_server_runs(
    serve: Serve, runtime: Path, live_restore: bool
) -> None:
    """F31: no false death where containers survive their engine, one clear death where not."""
    with own_engine(live_restore=live_restore) as engine:
        where = {"CONTAINER_PROVISIONER_ENGINE_URL": engine.url}
        kernel_id = left_alone(serve, **where)
        engine.stop()
        engine.start()
        second = serve(**where)
        if live_restore:
            with second.channels(kernel_id) as channels:
                assert channels.run("print(x)") == "1\n"
            assert second.delete(kernel_id) == 204
        else:
            assert second.call("GET", "kernels").json() == []
            assert len(second.lines("ended while no server ran", kernel_id)) == 1
        assert of_kernels(runtime) == []


@as_root
@pytest.mark.parametrize("live_restore", [True, False], ids=["live-restore", "no live-restore"])
def test_the_engine_is_restarted_under_a_server(serve: Serve, live_restore: bool) -> None:
    """F31: the kernel goes on, or is restarted once."""
    with own_engine(live_restore=live_restore) as engine:
        server = serve(CONTAINER_PROVISIONER_ENGINE_URL=engine.url)
        kernel_id = started(server)
        with server.channels(kernel_id) as channels:
            engine.stop()
            if live_restore:
                assert channels.run("print(x)") == "1\n"
            engine.start()
            if not live_restore:
                channels.until("status", execution_state="restarting")
        with server.channels(kernel_id) as channels:
            said = channels.run("print(x)")
        assert said == "1\n" if live_restore else said.startswith("NameError")
        assert len(server.lines("The kernel died:", kernel_id)) == (0 if live_restore else 1)
        assert server.delete(kernel_id) == 204


@as_root
def test_an_engine_that_comes_later_than_the_server(serve: Serve) -> None:
    """After a boot, say: its kernels are adopted when it answers."""
    with own_engine(live_restore=True) as engine:
        where = {"CONTAINER_PROVISIONER_ENGINE_URL": engine.url}
        kernel_id = left_alone(serve, **where)
        engine.stop()
        second = serve(**where)
        assert second.call("GET", "kernels").json() == []
        assert second.lines("cannot be adopted yet", kernel_id)
        engine.start()
        eventually(lambda: second.call("GET", f"kernels/{kernel_id}").ok, "the adoption")
        with second.channels(kernel_id) as channels:
            assert channels.run("print(x)") == "1\n"
        assert second.delete(kernel_id) == 204
