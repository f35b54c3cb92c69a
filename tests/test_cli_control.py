"""``kill`` and ``restart``: whoever has the kernel is asked in the way that suits it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from container_provisioner.cli import control
from container_provisioner.cli.servers import server_of
from container_provisioner.engine.base import ContainerInfo
from container_provisioner.engine.calls import Engine
from container_provisioner.store import RecordStore, own_lease, runtime_folder

from .command_line import command
from .conftest import WriteKernelspec
from .ends import left_below
from .owners import StartOwner, start_owner_fixture  # noqa: F401 - a fixture
from .server_process import TOKEN, eventually, jupyter_server

pytestmark = pytest.mark.docker

NO_SUCH = "no-such-kernel"
SPIN = "print('begins', flush=True)\nwhile True: pass"


def test_a_servers_kernels_are_its_own_to_end_and_restart(
    kernelspec: WriteKernelspec, runtime_dir: Path, folder: Path
) -> None:
    """Its front ends see it, and its restarter does not start the kernel again."""
    with jupyter_server(runtime_dir, folder) as server:
        kernel_id, other = (server.start(kernelspec()) for _ in range(2))
        program = f"{server.process.pid}"
        with server.channels(kernel_id) as page:
            assert page.run("x = 1; print(x)") == "1\n"
            done = command("restart", kernel_id)
            assert (done.code, done.lines) == (0, [kernel_id])
            assert "restarted by " in done.stderr
            assert program in done.stderr
            assert "NameError" in page.run("x")
            request = page.execute(SPIN)
            page.until("stream", request)
            assert command("kill", "--signal", "int", kernel_id).code == 0
            assert page.until("error", request)["ename"] == "KeyboardInterrupt"
        done = command("kill", "--json", kernel_id, NO_SUCH, other[:8])
        assert done.code == 10
        assert [item["kernel_id"] for item in done.json] == [kernel_id, other, NO_SUCH]
        assert NO_SUCH in done.stderr
        assert server.call("GET", "kernels").json() == []
        assert not server.lines("died")
        assert TOKEN not in done.stdout + done.stderr

        kernel_id = server.start(kernelspec())
        info = json.loads(server.address.read_text())
        for change, words in (
            ({"token": "another"}, "password"),
            ({"url": "http://127.0.0.1:9/"}, "does not answer"),
        ):
            server.address.write_text(json.dumps({**info, **change}))
            done = command("kill", kernel_id)
            assert (done.code, done.stdout) == (12, "")
            assert words in done.stderr
            assert done.stderr.count("\n") == 1
        server.address.write_text(json.dumps(info))
        assert command("kill", "--all", "--yes").lines == [kernel_id]


def test_a_servers_file_and_socket(runtime_dir: Path) -> None:
    lease = own_lease()
    assert server_of(lease.id) is None
    file = runtime_folder() / f"jpserver-{lease.facts['pid']}.json"
    file.write_text('{"url": "http+unix://%2Ftmp%2Fa.sock/base/", "token": "secret"}')
    server = server_of(lease.id)
    assert server is not None
    assert server._place == "http+unix:///tmp/a.sock/base/"
    for text in ("", "[]", '{"url": null'):
        file.write_text(text)
        assert server_of(lease.id) is None


def test_a_server_on_a_unix_socket(
    kernelspec: WriteKernelspec, runtime_dir: Path, folder: Path
) -> None:
    socket = runtime_dir / "s"
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "jupyter_server",
                "--allow-root",
                f"--ServerApp.root_dir={folder}",
            ),
            *(f"--ServerApp.sock={socket}", f"--IdentityProvider.token={TOKEN}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(socket.exists, "the server to listen")
        curl = ["curl", "-s", "--unix-socket", socket, "-H", f"Authorization: token {TOKEN}"]
        body = json.dumps({"name": kernelspec()})
        reply = eventually(
            lambda: (
                subprocess.run(
                    [*curl, "-d", body, "http://localhost/api/kernels"],
                    capture_output=True,
                    check=False,
                ).stdout
            ),
            "an answer",
        )
        kernel_id = json.loads(reply)["id"]
        assert command("restart", kernel_id).lines == [kernel_id]
        assert command("kill", kernel_id).lines == [kernel_id]
    finally:
        process.terminate()
        process.wait(30)


def test_a_kept_kernel_that_nobody_has(
    kernelspec: WriteKernelspec, start_owner: StartOwner, runtime_dir: Path
) -> None:
    kernelspec(on_server_exit="keep")
    owner, other = start_owner(), start_owner()
    container_id = owner.container.id
    owner.die()
    other.die()
    attach = ("attach", owner.kernel_id, "--run")
    assert command(*attach, "print(x)").stdout == "1\n"
    done = command("restart", owner.kernel_id)
    assert (done.code, done.lines) == (0, [owner.kernel_id]), done.stderr
    assert "NameError" in command(*attach, "x").stderr
    assert owner.container.id == container_id
    assert RecordStore().read(owner.kernel_id)["owner"] == ""
    other.container.kill()  # nobody can adopt what has ended
    done = command("restart", other.kernel_id)
    assert (done.code, done.stdout) == (8, "")
    assert sorted(command("kill", "--all", "-y").lines) == sorted(
        [owner.kernel_id, other.kernel_id]
    )
    assert left_below(runtime_dir) == []


def test_a_scripts_kernel_dies_and_is_not_restarted(
    kernelspec: WriteKernelspec, start_owner: StartOwner
) -> None:
    kernelspec()
    owner = start_owner(manager={"autorestart": False})
    done = command("restart", owner.kernel_id)
    assert (done.code, done.stdout) == (12, "")
    assert str(owner.process.pid) in done.stderr
    assert "no Jupyter Server" in done.stderr
    owner.container.pause()
    assert "when it is resumed" in command("kill", "-s", "WINCH", owner.kernel_id).stderr
    done = command("kill", owner.kernel_id)
    assert (done.code, done.lines) == (0, [owner.kernel_id])
    assert f"{owner.process.pid}, which has it, sees it die" in done.stderr
    container = owner.container
    assert (container.status, container.attrs["State"]["ExitCode"]) == ("exited", 137)
    done = command("kill", "-s", "TERM", owner.kernel_id)
    assert (done.code, done.stdout) == (8, "")
    assert "It has ended." in done.stderr
    owner.end()


def test_a_kernel_that_its_owner_starts_again_was_killed(
    kernelspec: WriteKernelspec, start_owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks too late sees it run, but not the run that was to end."""
    kernelspec()
    owner = start_owner()

    def started() -> Any:
        return owner.container.attrs["State"]["StartedAt"]

    run = started()
    looks: list[str] = []

    async def late(engine: Engine, container: str) -> ContainerInfo:
        """Once its owner's restarter has seen that it had ended."""
        if looks:
            eventually(lambda: started() != run, "its owner to restart it")
        looks.append(container)
        return await inspect(engine, container)

    inspect = Engine.inspect
    monkeypatch.setattr(Engine, "inspect", late)
    done = command("kill", owner.kernel_id)
    assert (done.code, done.lines, len(looks)) == (0, [owner.kernel_id], 2), done.stderr
    owner.end()
    assert owner.container is None


def test_an_interrupt_is_sent_in_the_kernels_own_way(
    kernelspec: WriteKernelspec,
    start_owner: StartOwner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a message where the kernelspec says so; without an answer it may not have arrived."""
    kernelspec(spec={"interrupt_mode": "message"})
    # A signal from outside would do nothing of this.
    code = (
        "kernel = get_ipython().kernel\n"
        "def seen(*_): open('/tmp/seen', 'w').write('seen')\n"
        f"kernel.control_handlers['interrupt_request'] = seen\n{SPIN}"
    )
    owner = start_owner(code=code)
    monkeypatch.setattr(control, "ANSWER_SECONDS", 1.0)
    done = command("kill", "-s", "SIGINT", owner.kernel_id)
    assert owner.container.exec_run(["cat", "/tmp/seen"]).output == b"seen"
    assert (done.code, done.stdout) == (8, "")
    assert "does not answer" in done.stderr
    owner.end()


def test_what_is_asked_for_all(runtime_dir: Path) -> None:
    for arguments in ((), ("--all",), ("--all", "--yes", "abc"), ("-s", "NO", "abc")):
        done = command("kill", *arguments)
        assert (done.code, done.stdout) == (2, "")
    done = command("kill", "--all", "--yes")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert command("restart", "--all", "--yes", "--json").json == []
    missing = f"unix://{runtime_dir}/no.sock"
    assert command("--engine-url", missing, "kill", "abc").code == 4
