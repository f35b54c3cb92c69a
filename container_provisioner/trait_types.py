"""Trait types of the settings: each refuses what makes no sense, wherever the value comes from.

All take their default from an environment variable, ``CONTAINER_PROVISIONER_`` and the trait's name
in capitals, when that is set.
"""

from __future__ import annotations

import json
import math
import os
import re
from typing import Any, NoReturn

from traitlets import Bool, Dict, Enum, Float, Integer, List, TraitError, TraitType, Unicode

from .spec import Mount

ENVIRONMENT_PREFIX = "CONTAINER_PROVISIONER_"

_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) *(?P<unit>[kmgt]?)(i?b)?", re.IGNORECASE | re.ASCII)
_USER = re.compile(r"auto|image|[0-9]{1,10}(:[0-9]{1,10})?")
# What the engines take for a uid or gid.
_LARGEST_ID = 2**31 - 1
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class FromEnvironment(TraitType[Any, Any]):
    """Takes its default from ``CONTAINER_PROVISIONER_<NAME>`` when that is set."""

    def default(self, obj: Any = None) -> Any:
        variable = ENVIRONMENT_PREFIX + str(self.name).upper()
        text = os.environ.get(variable)
        if obj is None or text is None:
            return super().default(obj)
        try:
            # validate here: traitlets would name the trait, but not where the value comes from
            return self._validate(obj, self.from_string(text))
        except (TraitError, ValueError) as exc:
            raise TraitError(f"Environment variable {variable}={text!r}: {exc}") from exc

    def error(self, obj: Any, value: Any, error: Any = None, info: Any = None) -> NoReturn:
        """In the words of a person who sets it; traitlets' own speak of traits and instances."""
        if not self.name:
            super().error(obj, value, error, info)
        raise TraitError(f"{self.name} has to be {self.info()}, not {value!r}.") from error


class Text(FromEnvironment, Unicode[str, str]):
    """Any text."""


class Choice(FromEnvironment, Enum[str]):
    """One of a few words."""

    def from_string(self, s: str) -> Any:
        return s


class Switch(FromEnvironment, Bool[bool, bool]):
    """True or false."""


class Finite(FromEnvironment, Float[float, float]):
    """A number that can be counted with: JSON and Python know ``NaN`` and ``Infinity`` too."""

    def validate(self, obj: Any, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value < self.min:
            self.error(obj, value)
        return super().validate(obj, value)


class Seconds(Finite):
    """A time in seconds, more than zero."""

    info_text = "a number of seconds, more than 0"

    def __init__(self, default: float, **kwargs: Any) -> None:
        super().__init__(default, min=0.001, **kwargs)


class Span(Finite):
    """A time in seconds; 0 is without end."""

    info_text = "a number of seconds, 0 or more"

    def __init__(self, default: float, **kwargs: Any) -> None:
        super().__init__(default, min=0.0, **kwargs)


class Cores(Finite):
    """A number of processors; 0 is no limit."""

    info_text = "a number, 0 or more"

    def __init__(self, default: float, **kwargs: Any) -> None:
        super().__init__(default, min=0.0, **kwargs)


class Count(FromEnvironment, Integer[int, int]):
    """A whole number; 0 is no limit."""

    info_text = "a whole number, 0 or more"

    def __init__(self, default: int, **kwargs: Any) -> None:
        super().__init__(default, **kwargs)

    def validate(self, obj: Any, value: Any) -> int:
        number = super().validate(obj, value)
        if number < 0:
            self.error(obj, value)
        return number


class Names(FromEnvironment, List[str]):
    """A list of names; commas separate them in an environment variable."""

    info_text = "a list of names"

    def info(self) -> str:
        return self.info_text

    def from_string(self, s: str) -> Any:
        return [name.strip() for name in s.split(",") if name.strip()]

    def from_string_list(self, s_list: list[str]) -> Any:
        return [name for text in s_list for name in self.from_string(text)]


class Fields(FromEnvironment, Dict):
    """A mapping; JSON in an environment variable."""

    def from_string(self, s: str) -> Any:
        return json.loads(s)

    def validate_elements(self, obj: Any, value: Any) -> Any:
        try:
            return super().validate_elements(obj, value)
        except TraitError:  # which shows a value, and that may be a secret
            raise TraitError(f"{self.name} has to be a mapping of texts to texts.") from None


class Size(Text):
    """Bytes, written as ``512m`` or ``2g`` (powers of 1024); empty is no limit."""

    info_text = "a size in bytes such as '512m' or '2g', or '' or 0 for no limit"

    def validate(self, obj: Any, value: Any) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or (text and not _SIZE.fullmatch(text.strip())):
            self.error(obj, value)
        return text.strip()


class User(Text):
    """``auto``, ``image``, or numbers: ``uid`` or ``uid:gid``."""

    info_text = "'auto', 'image', or numeric 'uid' or 'uid:gid'"

    def validate(self, obj: Any, value: Any) -> str:
        if not isinstance(value, str) or not _USER.fullmatch(value):
            self.error(obj, value)
        if any(int(number) > _LARGEST_ID for number in value.split(":") if number.isdecimal()):
            self.error(obj, value)
        return value


class Gpus(Text):
    """As ``docker run --gpus``."""

    info_text = "'', 'all', a number of GPUs, or 'device=ID[,ID…]'"

    def validate(self, obj: Any, value: Any) -> str:
        text = str(value)
        if not re.fullmatch(r"|all|[1-9]\d*|device=[\w,:-]+", text):
            self.error(obj, value)
        return text


class Mounts(Names):
    """Each ``SOURCE:TARGET`` or ``SOURCE:TARGET:rw``, both absolute."""

    info_text = "a list of 'SOURCE:TARGET' or 'SOURCE:TARGET:rw' with absolute paths"

    def validate(self, obj: Any, value: Any) -> Any:
        mounts = super().validate(obj, value)
        for text in mounts or ():
            parse_mount(text)
        return mounts


def parse_size(text: str) -> int | None:
    """``2g`` as 2147483648; None for an empty text or 0. Raises ValueError for anything else."""
    if not text:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(float(match["number"]) * _UNITS[match["unit"].lower()]) or None


def parse_mount(text: str) -> Mount:
    """Raises TraitError for what is not ``SOURCE:TARGET[:ro|rw]``, and for the engine's socket."""
    source, _, rest = os.path.expanduser(text).partition(":")  # noqa: PTH111
    target, _, mode = rest.partition(":")
    if not source.startswith("/") or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise TraitError(
            f"mounts: {text!r} is not 'SOURCE:TARGET' or 'SOURCE:TARGET:rw' with absolute paths"
        )
    if os.path.basename(os.path.realpath(source)) in ("docker.sock", "podman.sock"):  # noqa: PTH119
        raise TraitError(
            f"mounts: {text!r} would hand the engine to the kernel, and with it this machine"
        )
    return Mount(source=source, target=target, read_only=mode != "rw")
