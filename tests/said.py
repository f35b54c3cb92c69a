"""What a kernel says, in whatever order."""

from __future__ import annotations

from typing import Any

from .conftest import Kernel


async def until_it_says(kernel: Kernel, code: str, expected: str) -> None:
    """Execute, and read on: Deno may say it when it has said that it is idle."""
    said: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        content = message["content"]
        said.extend(content.get(name, "") for name in ("text", "ename", "evalue"))
        said.append(content.get("data", {}).get("text/plain", ""))

    reply: Any = await kernel.client.execute_interactive(code, timeout=30, output_hook=collect)
    while expected not in "".join(said):
        message = await kernel.client.get_iopub_msg(timeout=30)
        if (message["parent_header"] or {}).get("msg_id") == reply["parent_header"]["msg_id"]:
            collect(message)
