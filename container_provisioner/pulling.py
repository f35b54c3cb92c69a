"""What a pull has done so far, summed up over its layers."""

from __future__ import annotations

from dataclasses import dataclass

from .engine.base import PullStep
from .exits import format_size


@dataclass(frozen=True, kw_only=True)
class PullTotals:
    """Counts of one image. `str` is for a log: "3 of 7 layers, 120 MiB of 1.5 GiB"."""

    layers: int = 0  # that the image has; 0 until the registry has said so
    layers_done: int = 0
    current: int = 0  # bytes that have been downloaded
    total: int = 0  # bytes to download, of the layers whose size is known by now

    def __str__(self) -> str:
        parts = []
        if self.layers:
            parts.append(f"{self.layers_done} of {self.layers} layers")
        if self.total:
            parts.append(f"{format_size(self.current)} of {format_size(self.total)}")
        return ", ".join(parts) or "waiting for the registry"


class PullCounter:
    """Adds up the steps of one pull. A layer that the engine had already has no bytes."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}  # bytes so far, and in all
        self._done: set[str] = set()

    def add(self, step: PullStep) -> None:
        """To be called for each step, in order (see `engine.base.Progress`)."""
        if not step.layer:
            return
        current, total = self._layers.get(step.layer, (0, 0))
        total = max(total, step.total)
        if step.status == "Downloading":
            current = step.current
        elif step.total or step.status in ("Verifying Checksum", "Download complete"):
            current = total  # it is unpacked now, which counts the same bytes again
        self._layers[step.layer] = current, total
        if step.status in ("Pull complete", "Already exists"):
            self._done.add(step.layer)

    @property
    def totals(self) -> PullTotals:
        sizes = self._layers.values()
        return PullTotals(
            layers=len(sizes),
            layers_done=len(self._done),
            current=sum(current for current, _ in sizes),
            total=sum(total for _, total in sizes),
        )
