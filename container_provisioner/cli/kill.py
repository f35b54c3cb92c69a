"""``kill``: end kernels for good, or send them a signal."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..engine.calls import Engine
from . import control
from .choosing import for_each, several_kernels
from .kernels import ListedKernel


class SignalName(click.ParamType):  # type: ignore[type-arg] # older ones are not generic
    """``INT``, ``SIGINT`` or ``2``, as for ``kill`` and ``docker kill``."""

    name = "signal"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> signal.Signals:
        try:
            text = str(value).upper().removeprefix("SIG")
            return signal.Signals(int(text)) if text.isdecimal() else signal.Signals[f"SIG{text}"]
        except (KeyError, ValueError):
            self.fail(f"{value!r} is no signal, such as INT, TERM, USR1 or 2.", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = [known.name.removeprefix("SIG") for known in signal.Signals]
        return [CompletionItem(name) for name in names if name.startswith(incomplete.upper())]


@click.command()
@several_kernels
@click.option(
    "--signal",
    "-s",
    "signum",
    type=SignalName(),
    metavar="SIGNAL",
    help="Send this to the kernel's processes instead; INT interrupts the cell that runs.",
)
def kill(signum: signal.Signals | None, **options: Any) -> None:
    """End kernels for good, whoever has them, and remove their containers.

    If a Jupyter Server has the kernel, the server is asked to shut it down, so that its front ends
    know. A kept kernel that nobody has is shut down directly. If another program has it, that
    program sees its kernel die, and removes it or starts it again. Prints the kernels' ids.

    With --signal, the signal is sent and nothing else is done. If the kernel dies of it, a server
    that has it starts it again.
    """
    if signum is None:
        for_each(control.end, "Kill", "killed", **options)
    else:
        for_each(partial(_send, signum=signum), f"Send {signum.name} to", "sent", **options)


async def _send(engine: Engine, kernel: ListedKernel, *, signum: signal.Signals) -> str:
    return await control.send_signal(engine, kernel, signum)
