"""What every script here does alike: its options, Ctrl-C, the processes it starts."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import report
from place import ProvisionerMissingError

T = TypeVar("T")

INTERRUPTED = 130


def parser(script: str, about: str | None, *, rounds: int = 0) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=script, description=about)
    if rounds:
        made.add_argument("--rounds", type=_positive, default=rounds, help=f"default: {rounds}")
    made.add_argument("--markdown", action="store_true", help="print a table for a README")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def tell(
    arguments: argparse.Namespace,
    tables: Mapping[str, Sequence[Sequence[str]]],
    told: Sequence[str],
    document: dict[str, Any],
) -> None:
    """The tables by their titles and what stands below; all that was measured goes to --json."""
    shown = report.markdown if arguments.markdown else report.plain
    for title, table in tables.items():
        print(*([title, ""] if title else []), shown(table), "", sep="\n")
    # In markdown a list: its lines would run together.
    print(*(f"- {line}" if arguments.markdown else line for line in told), sep="\n")
    if arguments.json:
        document = {"facts": list(told), **document}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(measure: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What it answers. Exits after Ctrl-C, and when something is not installed."""

    async def inside() -> T:
        cancel_on_signals()
        return await measure()

    try:
        return asyncio.run(inside())
    except asyncio.CancelledError:
        raise SystemExit(INTERRUPTED) from None
    except ProvisionerMissingError as missing:
        raise SystemExit(str(missing)) from None


def cancel_on_signals() -> None:
    """Ctrl-C and SIGTERM cancel the run, once; a second one must not cut the cleaning short."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            say("Interrupted; removing the kernels.")
            stopped = True
            task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop)


@asynccontextmanager
async def process(*command: str, grace: float = 60.0, **options: Any) -> AsyncIterator[Process]:
    """A process that is asked to end at the end, and killed if it does not.

    In a session of its own: Ctrl-C reaches this process, which ends the others in good order.
    """
    started = await asyncio.create_subprocess_exec(*command, start_new_session=True, **options)
    try:
        yield started
    finally:
        if started.stdin is not None:
            started.stdin.close()
        if started.returncode is None:
            started.terminate()
            try:
                await asyncio.wait_for(started.wait(), grace)
            except (asyncio.TimeoutError, asyncio.CancelledError):
                started.kill()
                await started.wait()
                raise


Process = asyncio.subprocess.Process


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A temporary directory with a short path, which kernels of other users may enter."""
    with tempfile.TemporaryDirectory(
        prefix="bench-", dir="/tmp", ignore_cleanup_errors=True
    ) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
