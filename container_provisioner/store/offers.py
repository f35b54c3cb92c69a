"""The warm containers that may be claimed, as files: who removes the file has the container.

An engine cannot decide that: of two callers that rename a container from the same name at the same
time, both succeed, one after the other. Of two that unlink a file, one does.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .places import FOLDER, runtime_folder, write_private


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A container that waits. `name` is its own, and its private directory's kernel id."""

    digest: str  # of its specification
    name: str
    container_id: str
    launch_id: str
    since: float  # seconds since the epoch
    memory: int  # bytes that it uses while it waits
    started_at: str  # as the engine has it
    addresses: dict[str, str]  # network name -> IP address
    published: list[tuple[int, str, int]]  # port inside, host's address, port there


class Offers:
    """All of one runtime directory, whoever keeps them."""

    def __init__(self) -> None:
        self.folder = runtime_folder() / FOLDER / "warm"

    def put(self, offer: Offer) -> None:
        write_private(self.path(offer), json.dumps(asdict(offer)))

    def take(self, offer: Offer) -> bool:
        """Whether it is the caller's now. Of all who try, exactly one is told so."""
        try:
            self.path(offer).unlink()
        except FileNotFoundError:
            return False
        return True

    def withdraw(self, digest: str, name: str) -> None:
        """Its keeper has died; nobody is to have it any more."""
        self._file(digest, name).unlink(missing_ok=True)

    def has(self, offer: Offer) -> bool:
        return self.path(offer).exists()

    def all(self, digest: str = "*") -> list[Offer]:
        """Of that specification, or of every one, the oldest first."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.folder.glob(f"{digest}.*.json"):
                try:
                    found.append(Offer(**json.loads(path.read_text(encoding="ascii"))))
                except OSError:
                    continue  # just taken; or this process has too many files open
                except (ValueError, TypeError):
                    path.unlink(missing_ok=True)  # of another version; its keeper ends with it
        return sorted(found, key=lambda offer: offer.since)

    def __bool__(self) -> bool:
        """Whether there is any. Costs next to nothing where nobody keeps a pool."""
        try:
            return any(path.suffix == ".json" for path in self.folder.iterdir())
        except FileNotFoundError:
            return False

    def path(self, offer: Offer) -> Path:
        return self._file(offer.digest, offer.name)

    def _file(self, digest: str, name: str) -> Path:
        return self.folder / f"{digest}.{name}.json"
