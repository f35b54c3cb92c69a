"""The command ``jupyter container-kernel``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """See `command.main`. Importing it takes half a second, in which Ctrl-C is quiet too."""
    try:
        from .command import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
