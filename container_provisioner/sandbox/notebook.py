"""A notebook's cells, run one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import nbformat

from ..errors import ContainerProvisionerError
from ..exits import ESCAPE_SEQUENCES
from .answers import Answer, Died, Finished, Raised, TimedOut, TooMuchOutput

# As nbclient has it: the cell is there to show an exception.
_MAY_RAISE = "raises-exception"


class CellFailed(ContainerProvisionerError):
    """A cell of a notebook did not finish. `answer` is what became of it; `cell` counts from 1."""

    def __init__(self, notebook: Path, cell: int, source: str, answer: Answer) -> None:
        self.notebook, self.cell, self.answer = notebook, cell, answer
        super().__init__(f"Cell {cell} of {notebook} {_what(answer)}\n\n{source}\n\n{_why(answer)}")


async def run_cells(
    run: Callable[..., Awaitable[Answer]], notebook: Path, timeout: float | None
) -> None:
    """Raises `CellFailed` at the first cell that does not finish, and OSError or nbformat's
    `NotJSONError` for what is no notebook."""
    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    for number, cell in enumerate(cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        answer = await run(cell.source, timeout=timeout)
        may_raise = _MAY_RAISE in cell.metadata.get("tags", ())
        if not (isinstance(answer, Finished) or (may_raise and isinstance(answer, Raised))):
            raise CellFailed(notebook, number, cell.source, answer)


def _what(answer: Answer) -> str:
    if isinstance(answer, Raised):
        return f"raised {answer.ename}: {answer.evalue}"
    if isinstance(answer, TimedOut):
        return f"did not end within {answer.timeout:g} s."
    if isinstance(answer, TooMuchOutput):
        return f"wrote more than {answer.limit} bytes."
    return "did not end."


def _why(answer: Answer) -> str:
    if isinstance(answer, Raised):
        return ESCAPE_SEQUENCES.sub("", "\n".join(answer.traceback))
    return answer.reason if isinstance(answer, Died) else answer.stdout[-1000:]
