"""One process per user and runtime directory that sees to it that nothing is orphaned.

It waits for the death of every process that owns kernels and removes what was to end with it. What
was to be kept it records: the messages that nobody is there to receive. It starts with the first
kernel, in a session of its own, and ends when there is nothing left to guard. A process that starts
a kernel finds it by a socket, or starts it again; it then first does what was left undone.

Nothing in `client` needs what `process` needs: the guard imports the engine's SDK and ZeroMQ only
when there is something to do with them.
"""

from __future__ import annotations

from .client import GuardUnavailable, Missed, ask_guard, listening_guard, take_missed

__all__ = ["GuardUnavailable", "Missed", "ask_guard", "listening_guard", "take_missed"]
