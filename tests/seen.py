"""What a kernel sees, as a value."""

from __future__ import annotations

import json
from typing import Any

from .conftest import Kernel


async def seen(kernel: Kernel, code: str) -> Any:
    """The value of ``seen`` in the kernel after it has run `code`."""
    printed = await kernel.run(f"{code}\nimport json; print(json.dumps(seen))")
    try:
        return json.loads(printed)
    except ValueError:
        raise AssertionError(f"the kernel said: {printed}") from None
