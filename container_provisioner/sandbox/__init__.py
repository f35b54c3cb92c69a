"""Code that nobody vouches for, run in a kernel in a container: without a server, for a script.

``with Sandbox() as sandbox: answer = sandbox.run(code, timeout=10)``
"""

from __future__ import annotations

from .answers import (
    Answer,
    Died,
    Display,
    Finished,
    Image,
    Output,
    Raised,
    Stream,
    TimedOut,
    TooMuchOutput,
)
from .asynchronous import AsyncSandbox
from .blocking import Sandbox
from .notebook import CellFailed

__all__ = [
    "Answer",
    "AsyncSandbox",
    "CellFailed",
    "Died",
    "Display",
    "Finished",
    "Image",
    "Output",
    "Raised",
    "Sandbox",
    "Stream",
    "TimedOut",
    "TooMuchOutput",
]
