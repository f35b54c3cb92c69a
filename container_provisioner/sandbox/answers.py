"""What became of code that was run: one class for each way that it can go.

All text and data in here came out of the sandbox. Nothing in it is to be trusted: not for a
terminal, which escape sequences can play tricks on, and not as HTML.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal, Union

from ..exits import Cause


@dataclass(frozen=True, kw_only=True)
class Image:
    """A picture. `content` is a file's: PNG, JPEG, … or the text of an SVG, encoded."""

    mime_type: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Text that the code wrote."""

    name: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Display:
    """What was displayed, or the value of the last expression, in one or more representations.

    `data` is by MIME type, as Jupyter has it: binary types in base64, JSON types as objects.
    """

    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The plain representation; empty when there is none."""
        text = self.data.get("text/plain", "")
        return text.encode(errors="replace").decode() if isinstance(text, str) else ""

    @property
    def images(self) -> tuple[Image, ...]:
        """One for each representation that is a picture. What is no base64 is left out."""
        return tuple(
            Image(mime_type=mime_type, content=content)
            for mime_type, value in self.data.items()
            if mime_type.startswith("image/") and isinstance(value, str)
            if (content := _content(mime_type, value))
        )


def _content(mime_type: str, value: str) -> bytes:
    if mime_type.endswith("+xml"):
        return value.encode(errors="replace")
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


Output = Union[Stream, Display]  # noqa: UP007 - evaluated, for `typing.get_args`
"""What `on_output` is given, as it comes. Both have a `text`."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What all answers have. The class says what happened; `match` tells them apart."""

    outputs: tuple[Output, ...] = ()
    """What the code wrote and displayed, in order, until it ended or was stopped; the result of
    `Finished` is not among them. A display that is updated is there once for each update."""
    seconds: float = 0.0
    """From the request to the answer."""

    @property
    def alive(self) -> bool:
        """Whether the sandbox goes on, with its variables and files."""
        return True

    @property
    def stdout(self) -> str:
        return self._written("stdout")

    @property
    def stderr(self) -> str:
        return self._written("stderr")

    @property
    def images(self) -> tuple[Image, ...]:
        """All pictures, those of a result last."""
        return _images(self.outputs)

    def _written(self, name: str) -> str:
        streams = (each for each in self.outputs if isinstance(each, Stream))
        return "".join(each.text for each in streams if each.name == name)


@dataclass(frozen=True, kw_only=True)
class Finished(Answer):
    """The code ran to its end. `result` is the value of its last expression, if it has one."""

    result: Display | None = None

    @property
    def text(self) -> str:
        """The result's; empty without one."""
        return self.result.text if self.result is not None else ""

    @property
    def images(self) -> tuple[Image, ...]:
        results = () if self.result is None else (self.result,)
        return _images((*self.outputs, *results))


@dataclass(frozen=True, kw_only=True)
class Raised(Answer):
    """The code ended with an exception, or did not compile.

    `ename` is its class, `evalue` its message; `traceback` is lines for a terminal, with colours.
    """

    ename: str
    evalue: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TimedOut(Answer):
    """The code did not end within `timeout` seconds, and was interrupted.

    When that did not help, within the sandbox's `interrupt_timeout`, the kernel was killed, and
    `alive` is False.
    """

    timeout: float
    killed: bool = False

    @property
    def alive(self) -> bool:
        return not self.killed


@dataclass(frozen=True, kw_only=True)
class TooMuchOutput(Answer):
    """More than `limit` bytes came, or the connection broke, which a message that is too large
    brings about. The code was stopped as after a timeout; `outputs` is what came before."""

    limit: int
    killed: bool = False

    @property
    def alive(self) -> bool:
        return not self.killed


@dataclass(frozen=True, kw_only=True)
class Died(Answer):
    """The kernel ended while the code ran, or had ended before, and then nothing was run.

    `reason` is a line for people; it ends with the kernel's last words, if it had any. `cause` is
    "memory", "signal", "exit" (by itself), "removed" (its container, from outside), "requested" (it
    was killed after a timeout) or "error" (the engine's). `exit_code` is 128 + n after signal n.
    """

    reason: str
    cause: Cause
    exit_code: int

    @property
    def alive(self) -> bool:
        return False


def merged(outputs: Iterable[Output]) -> tuple[Output, ...]:
    """The same with adjacent pieces of one stream as one."""
    result: list[Output] = []
    for key, pieces in groupby(outputs, lambda each: getattr(each, "name", None)):
        if key is None:
            result.extend(pieces)
        else:
            result.append(Stream(name=key, text="".join(each.text for each in pieces)))
    return tuple(result)


def _images(outputs: Iterable[Output]) -> tuple[Image, ...]:
    displays = (each for each in outputs if isinstance(each, Display))
    return tuple(image for each in displays for image in each.images)
