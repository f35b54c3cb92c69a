"""What a pull or a build is doing, on standard error: bars on a terminal, some lines in a pipe."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from ..engine.base import BuildProgress, BuildStep, ImageInfo, PullStep
from ..engine.base import Progress as PullProgress
from ..engine.calls import Engine
from ..exits import format_size
from ..image import ensure_image
from ..pulling import PullCounter, PullTotals

# Between two lines about a pull in a pipe.
LINE_SECONDS = 5.0

_ENDS = f"{__name__}.ends"

# Whoever shows a bar needs no lines of a log between.
_SILENT = logging.Logger("silent", level=logging.CRITICAL)


async def present(
    engine: Engine, image: str, *, policy: str = "missing", deadline: float
) -> ImageInfo:
    """`image.ensure_image` for a person who waits: shows the pull, when there has to be one.

    Raises `ImageMissing` under the policy ``never``, else `PullFailed`.
    """
    with pulling(image) as progress:
        return await ensure_image(
            engine, image, policy=policy, deadline=deadline, log=_SILENT, progress=progress
        )


def notice(text: str) -> None:
    """A line for the user, beside the results."""
    click.echo(text, err=True)


def say_that_it_ends(text: str) -> None:
    """The same, after Ctrl-C. `command.Sections` has no line to add then."""
    notice(text)
    if (context := click.get_current_context(silent=True)) is not None:
        context.meta[_ENDS] = True


def has_said_that_it_ends() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and _ENDS in context.meta


@contextmanager
def pulling(image: str) -> Iterator[PullProgress]:
    """Shows the steps that it is given, in any thread; nothing before the first one.

    ``with pulling(image) as progress: await engine.pull(image, progress, deadline)``
    """
    counter, share = PullCounter(), 0.0
    with _shown(f"Pulling {image}", interrupted=f"Interrupted: {image} was not pulled.") as shown:

        def show(step: PullStep) -> None:
            nonlocal share
            counter.add(step)
            # Sizes become known one by one; a bar that goes back would worry people.
            share = max(share, _share(counter.totals))
            shown.show(share, str(counter.totals))

        yield shown.while_shown(show)
    if shown.has_begun:
        totals = counter.totals
        layers = "1 layer" if totals.layers == 1 else f"{totals.layers} layers"
        parts = [layers] if totals.layers else []
        parts += [format_size(totals.total)] if totals.total else []
        what = f" ({', '.join(parts)})" if parts else ""
        notice(f"Pulled {image}{what} in {shown.seconds:.0f} s")


@contextmanager
def building(image: str) -> Iterator[BuildProgress]:
    """The same for the steps of a build, and the last line that its command wrote."""
    fetched = PullCounter()
    with _shown(f"Building {image}", interrupted=f"Interrupted: {image} was not built.") as shown:
        shown.says_that_it_begins = False  # the first step does

        def show(step: BuildStep | PullStep) -> None:
            if isinstance(step, PullStep):  # the engine fetches what the Dockerfile names
                fetched.add(step)
                shown.show(None, str(fetched.totals))
                return
            text = f"step {step.number} of {step.total}: {step.instruction}"
            # Not the share that is done: nobody knows how long a step takes.
            share = (step.number - 1) / step.total if step.total else 0.0
            shown.show(share, text, line=step.line)

        yield shown.while_shown(show)


def _share(totals: PullTotals) -> float:
    """Of the work, from 0 to 1: half of it is the download, half of it unpacking."""
    if not totals.layers:
        return 0.0
    unpacked = totals.layers_done / totals.layers
    return (unpacked + (totals.current / totals.total if totals.total else unpacked)) / 2


@contextmanager
def _shown(what: str, *, interrupted: str) -> Iterator[_Display]:
    display = (_Bar if sys.stderr.isatty() else _Lines)(what)
    try:
        yield display
    except (asyncio.CancelledError, KeyboardInterrupt):
        display.end()
        say_that_it_ends(interrupted)
        raise
    finally:
        display.end()


class _Display:
    """Both kinds: begins with the first step, and takes no more when it has ended: a pull that was
    given up goes on in its thread."""

    says_that_it_begins = True

    def __init__(self, what: str) -> None:
        self.what = what
        self.has_begun = self._has_ended = False
        self._lock = threading.Lock()
        self._began = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def while_shown(self, show: Callable[..., None]) -> Callable[..., None]:
        def guarded(step: BuildStep | PullStep) -> None:
            with self._lock:
                if self._has_ended:
                    return
                if not self.has_begun:
                    self.has_begun, self._began = True, time.monotonic()
                    self.begin()
                show(step)

        return guarded

    def end(self) -> None:
        with self._lock:
            if self.has_begun and not self._has_ended:
                self.clear()
            self._has_ended = True

    def begin(self) -> None: ...

    def show(self, share: float | None, text: str, line: str = "") -> None: ...

    def clear(self) -> None: ...


class _Bar(_Display):
    """On a terminal: one bar, below it what is being done and its last line. Gone at the end."""

    def begin(self) -> None:
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        description = Column(no_wrap=True, overflow="ellipsis")
        self._bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=description),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task(self.what, total=1.0)
        self._live = Live(self._bar, console=console, transient=True, refresh_per_second=8)
        self._live.start()

    def show(self, share: float | None, text: str, line: str = "") -> None:
        if share is not None:
            self._bar.update(self._task, completed=share)
        # Not as wide as the terminal: the ^C that it shows would begin a line, and move the rest.
        width = self._live.console.width - 5
        below = [
            Text(f"  {words[:width]}", style=style, no_wrap=True)
            for words, style in ((text, ""), (line, "dim"))
            if words
        ]
        self._live.update(Group(self._bar, *below))

    def clear(self) -> None:
        self._live.stop()


class _Lines(_Display):
    """In a pipe: that it begins, each step of a build, and the sum of a pull now and then."""

    def begin(self) -> None:
        self._last_step, self._last_time = "", time.monotonic()
        if self.says_that_it_begins:
            notice(f"{self.what}…")

    def show(self, share: float | None, text: str, line: str = "") -> None:
        if text.startswith("step "):
            if text != self._last_step:
                self._last_step = text
                notice(f"S{text[1:]}")
        elif time.monotonic() - self._last_time >= LINE_SECONDS:
            self._last_time = time.monotonic()
            notice(f"{self.what}: {text}")
