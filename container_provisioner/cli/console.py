"""jupyter_console on a kernel that others have. The only module that needs that package."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import click
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_console.app import ZMQTerminalIPythonApp  # type: ignore[import-untyped]
from jupyter_console.ptshell import (  # type: ignore[import-untyped]
    ZMQTerminalInteractiveShell,
)

from ..errors import ContainerProvisionerError

# In ipykernel each of them ends the kernel when it is executed.
LEAVE = ("exit", "exit()", "quit", "quit()")


def open_console(info: Any, interrupt: Callable[[], None]) -> None:
    """Returns when the user leaves. `info` is a connection file's; `interrupt` may block."""
    console = Console()
    console.info, console.interrupt = info, interrupt
    try:
        console.initialize([])  # not our command line
        console.start()
    finally:
        if getattr(console, "kernel_client", None) is not None:
            console.kernel_client.stop_channels()


class Shell(ZMQTerminalInteractiveShell):  # type: ignore[misc]
    """Leaving is no business of the kernel's."""

    def run_cell(self, cell: str, store_history: bool = True) -> None:
        if cell.strip() in LEAVE:
            self.ask_exit()
        else:
            super().run_cell(cell, store_history)


class Console(ZMQTerminalIPythonApp):  # type: ignore[misc]
    """As ``jupyter console --existing``, with its settings; but without a connection file."""

    info: Any
    interrupt: Callable[[], None]

    def init_shell(self) -> None:
        self.kernel_manager = None
        self.kernel_client = BlockingKernelClient(parent=self)
        self.kernel_client.load_connection_info(self.info)
        self.kernel_client.start_channels()
        signal.signal(signal.SIGINT, self.handle_sigint)
        self.shell = Shell.instance(
            parent=self, manager=None, client=self.kernel_client, confirm_exit=False
        )
        self.shell.own_kernel = False

    def handle_sigint(self, *args: Any) -> None:
        if not self.shell._executing:
            raise KeyboardInterrupt  # the prompt is drawn anew
        # In a thread: the shell's event loop runs in this one.
        threading.Thread(target=self._interrupt, daemon=True).start()

    def _interrupt(self) -> None:
        try:
            self.interrupt()
        except ContainerProvisionerError as exc:
            click.echo(f"Error: {exc}", err=True)
