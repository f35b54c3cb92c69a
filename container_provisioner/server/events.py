"""The stages of this server's kernels, on jupyter_server's event bus.

See "Jupyter Server's event system" in its documentation; docs/events.md describes the events.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from ..stages import Report, observe, stop_observing

SCHEMA = Path(__file__).parent / "event_schemas" / "kernel_lifecycle" / "v1.yaml"
SCHEMA_ID = (
    "https://github.com/container-provisioner/container-provisioner/events/kernel_lifecycle/v1"
)


class KernelEvents:
    """Emits every `Report` of a kernel that this server's manager has, in the server's loop.

    Who may read them is jupyter_server's to decide (resource ``events``): not everybody who may
    need be somebody who may read kernels. `Report` holds nothing that they must not see.
    """

    def __init__(self, app: Any) -> None:
        self._logger, self._kernels = app.event_logger, app.kernel_manager
        self._loop: asyncio.AbstractEventLoop = app.io_loop.asyncio_loop
        try:
            self._logger.register_event_schema(SCHEMA)
        except Exception as exc:  # noqa: BLE001 - events are not all that the extension is for
            # jupyter_events before 0.11 wants versions to be numbers, later ones to be text.
            app.log.warning("The stages of kernels are not on the event bus: %s", exc)
            return
        observe(self._reported)

    def close(self) -> None:
        stop_observing(self._reported)

    def _reported(self, report: Report) -> None:
        """In any thread. Kernels that somebody else in this process has are not the server's."""
        if getattr(report.manager, "parent", None) is self._kernels:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody listens
                self._loop.call_soon_threadsafe(self._emit, report)

    def _emit(self, report: Report) -> None:
        self._logger.emit(schema_id=SCHEMA_ID, data=event(report))


def event(report: Report) -> dict[str, Any]:
    """What the schema says of a report; what is empty is left out."""
    fields = {
        name: value
        for name, value in vars(report).items()
        if name != "manager" and value not in ("", None)
    }
    fields["seconds"] = round(report.seconds, 3)
    if report.pull is not None:
        fields["pull"] = dict(vars(report.pull))
    return fields
