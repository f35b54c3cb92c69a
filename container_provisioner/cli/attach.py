"""``attach``: a console on a running kernel."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import click
from jupyter_client.blocking.client import BlockingKernelClient

from ..engine.base import ContainerInfo
from ..errors import (
    ConfigurationError,
    ContainerGone,
    ContainerProvisionerError,
    EngineUnavailable,
    KernelDied,
)
from .asking import run, the_engine
from .control import check_ours, connection_info, send_signal
from .kernels import ListedKernel, complete_kernel, find_kernel, list_kernels, why_ended
from .output import json_option

_SILENT_SECONDS = 1.0  # until one looks whether the kernel still runs

# Of a message, what a notebook would keep of it.
_OUTPUTS = {
    "stream": ("name", "text"),
    "display_data": ("data", "metadata"),
    "execute_result": ("data", "metadata", "execution_count"),
    "error": ("ename", "evalue", "traceback"),
}


@click.command()
@click.argument("kernel", shell_complete=complete_kernel)
@click.option("--run", "code", metavar="CODE", help="Run this and end, instead of a console.")
@json_option
def attach(kernel: str, code: str | None, as_json: bool) -> None:
    """Open a console on a running kernel. Needs jupyter_console.

    Whoever has the kernel keeps it: this is a second front end. Ctrl-C interrupts what was entered
    here. Ctrl-D or 'exit' leaves, and the kernel goes on.

    With --run, or with code piped to standard input, the code is run once, as soon as the kernel
    has nothing else to do. What it prints is printed; the exit code is 1 when it ends in an
    error. With --json, each output is one line, with the fields that it would have in a notebook.
    """
    if code is None and not sys.stdin.isatty():
        code = sys.stdin.read()
    if as_json and code is None:
        raise click.UsageError("--json needs code: --run CODE, or code on standard input.")
    found, info = run(_find(kernel))
    if code is not None:
        _run_code(found, info, code, _show_json if as_json else _show)
        return
    try:
        from .console import open_console
    except ImportError as exc:
        raise ConfigurationError(
            "A console needs jupyter_console: 'pip install jupyter_console'. (Without it, "
            f"'--run CODE' works. {exc})"
        ) from exc
    open_console(info, lambda: interrupt(found))


async def _find(name: str) -> tuple[ListedKernel, Any]:
    engine = await the_engine()
    kernel = find_kernel(await list_kernels(engine), name)
    check_ours(kernel)
    try:
        return kernel, await connection_info(engine, kernel)
    except ContainerProvisionerError as exc:
        raise exc.about(kernel.kernel_id) from exc.__cause__


def interrupt(kernel: ListedKernel) -> None:
    """As ``kill --signal INT``."""

    async def send() -> None:
        await send_signal(await the_engine(), kernel, signal.SIGINT)

    run(send())


def _run_code(
    kernel: ListedKernel, info: Any, code: str, print_message: Callable[[dict[str, Any]], None]
) -> None:
    client = BlockingKernelClient()
    client.load_connection_info(info)
    client.start_channels()
    begun = False

    def show(message: dict[str, Any]) -> None:
        nonlocal begun
        begun = True
        print_message(message)

    try:
        client.wait_for_ready()
        started_at = run(_look(kernel)).started_at
        status = _execute(client, code, show, lambda: run(_check_goes_on(kernel, started_at)))
    except KeyboardInterrupt:
        if begun:  # else it is another front end's cell that runs
            interrupt(kernel)
        raise click.Abort from None
    except RuntimeError as exc:
        raise KernelDied(f"It does not answer: {exc}.").about(kernel.kernel_id) from exc
    finally:
        client.stop_channels()
    if status != "ok":
        raise click.exceptions.Exit(1)


def _execute(
    client: BlockingKernelClient,
    code: str,
    show: Callable[[dict[str, Any]], None],
    check: Callable[[], None],
) -> str:
    """The reply's status. `check` is called while nothing comes, and raises when nothing will."""
    request = client.execute(code, allow_stdin=False)

    def answers(receive: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
        while True:
            try:
                message = receive(timeout=_SILENT_SECONDS)
            except Empty:
                check()
            else:
                if message["parent_header"].get("msg_id") == request:
                    yield message

    for message in answers(client.get_iopub_msg):
        show(message)
        if message["content"].get("execution_state") == "idle":
            break
    return str(next(answers(client.get_shell_msg))["content"]["status"])


async def _look(kernel: ListedKernel) -> ContainerInfo:
    return await (await the_engine()).inspect(kernel.container.id)


async def _check_goes_on(kernel: ListedKernel, started_at: str) -> None:
    """Raises `KernelDied` when the run that began then is over, also when there is another one:
    whoever has the kernel may start it again at once, in the same container or in a new one."""
    try:
        found = await _look(kernel)
    except EngineUnavailable:
        return  # what nobody can tell is no end
    except ContainerGone:
        why = "its container was removed"
    else:
        if not (why := why_ended(found)) and found.started_at != started_at:
            why = "whoever has it has started it again"
    if why:
        error = KernelDied(f"The kernel ended before the code had: {why}.")
        raise error.about(kernel.kernel_id)


def _show(message: dict[str, Any]) -> None:
    """As a terminal would have it: text, each on the stream where it belongs."""
    kind, content = message["msg_type"], message["content"]
    if kind == "stream":
        click.echo(content["text"], nl=False, err=content["name"] == "stderr")
    elif kind in ("display_data", "execute_result"):
        click.echo(content["data"].get("text/plain", ""))
    elif kind == "error":
        click.echo("\n".join(content["traceback"]), err=True)


def _show_json(message: dict[str, Any]) -> None:
    """As it would stand in a notebook, a line each."""
    kind, content = message["msg_type"], message["content"]
    if kind in _OUTPUTS:
        fields = {name: content[name] for name in _OUTPUTS[kind] if name in content}
        click.echo(json.dumps({"output_type": kind, **fields}))
