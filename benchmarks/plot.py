"""Draws what the other scripts wrote with --json: `plot.py bench.json server.json gateway.json …`.

Which script wrote a file is seen from what is in it. Panels without figures are left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "performance.svg"
COLOURS = {
    "local": "#9a9a9a",
    "local ipc": "#c4c4c4",
    "container": "#2b6cb0",
    "warm": "#dd6b20",
    "gateway": "#6b8e5a",
}
NAMES = {
    "local": "local",
    "local ipc": "local, ipc",
    "container": "container, cold",
    "warm": "container, warm",
    "gateway": "gateway_provisioners",
}


@dataclass(frozen=True)
class Panel:
    """One measure of one script; `factor` turns its seconds into the unit of the title."""

    script: str
    key: str
    title: str
    factor: float = 1.0
    also: str = ""  # another script with the same measure, for the columns that only it has


PANELS = (
    Panel("bench", "start", "start to first reply, ms", 1e3, "gateway"),
    Panel("server", "reply", "POST /api/kernels to first websocket reply, ms", 1e3),
    Panel("bench", "recreate", "restart in a new container, ms", 1e3, "gateway"),
    Panel("bench", "reply", "empty execute to its reply, ms", 1e3, "gateway"),
    Panel("lag", "all", "many starts at once: until all have answered, s"),
    Panel("lag", "worst", "many starts at once: worst lag of the event loop, ms", 1e3),
)


def documents(files: list[Path]) -> dict[str, dict[str, Any]]:
    """By the script that wrote it: the figures of each measure."""
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        document = json.loads(file.read_text())
        for part in ("lag", "claims"):
            if part in document:
                found[part] = document[part]["seconds"]
        if "post" in document.get("seconds", {}):
            found["server"] = document["seconds"]
        elif "gateway" in document.get("columns", ()):
            found["gateway"] = document["seconds"]
        elif "seconds" in document:
            found["bench"] = document["seconds"]
    return found


def bars(panel: Panel, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Column -> middle, low, high."""
    by_column = dict(found.get(panel.script, {}).get(panel.key, {}))
    for name, figures in found.get(panel.also, {}).get(panel.key, {}).items():
        by_column.setdefault(name, figures)
    return {name: by_column[name] for name in NAMES if name in by_column}


def draw(found: dict[str, dict[str, Any]], out: Path) -> None:
    panels = [(panel, bars(panel, found)) for panel in PANELS]
    panels = [(panel, shown) for panel, shown in panels if shown]
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "performance", "font.size": 9})
    rows = (len(panels) + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(10, 1.9 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for (panel, shown), axis in zip(panels, axes.flat, strict=False):
        middles = [figures["middle"] * panel.factor for figures in shown.values()]
        spans = [
            [(f["middle"] - f["low"]) * panel.factor for f in shown.values()],
            [(f["high"] - f["middle"]) * panel.factor for f in shown.values()],
        ]
        places = range(len(shown))
        axis.barh(
            places, middles, xerr=spans, color=[COLOURS[name] for name in shown], ecolor="0.3"
        )
        axis.set_yticks(places, [NAMES[name] for name in shown])
        axis.invert_yaxis()
        for place, middle, span in zip(places, middles, spans[1], strict=True):
            text = f"{middle:.0f}" if middle >= 100 else f"{middle:.3g}"
            end = (middle + span, place)
            axis.annotate(text, end, (4, 0), textcoords="offset points", va="center")
        axis.set_title(panel.title, loc="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None, "Creator": None}, transparent=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="plot.py", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, default=OUT, help="default: docs/images")
    arguments = parser.parse_args()
    draw(documents(arguments.files), arguments.out)


if __name__ == "__main__":
    main()
