"""A swarm's tasks that have ended, as events: its own event stream does not tell of tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from .base import Event
from .service_answers import Run

# Two list calls in each, for all kernels together. A swarm's manager has its lists in memory.
LOOK_SECONDS = 0.4


class ServiceEvents:
    """Looks again and again. `runs`: the last run of each service; what it raises, this raises."""

    def __init__(self, runs: Callable[[], Mapping[str, Run]]) -> None:
        self._runs = runs
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Event]:
        reported: set[tuple[str, str]] = set()
        there: set[str] = set()
        while not self._closed.is_set():
            runs = self._runs()
            gone, there = there - runs.keys(), set(runs)
            for service in gone:
                yield Event(action="die", container_id=service)
            for service, run in runs.items():
                if not (run.has_ended or run.is_lost):
                    continue
                if (this := (service, str(run.task["ID"]))) not in reported:
                    reported.add(this)
                    yield Event(action="die", container_id=service)
            self._closed.wait(LOOK_SECONDS)

    def close(self) -> None:
        self._closed.set()
