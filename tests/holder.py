"""A process that has a lease, and does what it is told to."""

from __future__ import annotations

import subprocess
import sys

HOLDER = """
import sys
from container_provisioner.store import own_lease
lease = own_lease()
lease.uses("unix:///engine.sock")
print(lease.id, flush=True)
{then}
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Holder:
    """`lease` is its id."""

    def __init__(self, then: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(then=then)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lease = self._line()

    def do(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{code}\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()
