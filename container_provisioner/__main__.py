"""``python -m container_provisioner`` is ``jupyter container-kernel``."""

from __future__ import annotations

from .cli import main

main()
