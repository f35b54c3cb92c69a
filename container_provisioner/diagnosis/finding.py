"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "note", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was looked at, and what it is like.

    A "note" is worth knowing and keeps nothing from working; a "problem" does. `cure` says what to
    do about either, if `says` does not.
    """

    subject: str
    outcome: Outcome
    says: str
    cure: str = ""
