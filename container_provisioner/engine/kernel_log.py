"""What Linux itself says of a container: that its memory ran out."""

from __future__ import annotations

import os

_LOG = "/dev/kmsg"
_SIGN = b"oom-kill:constraint=CONSTRAINT_MEMCG"
_RECORD = 8192  # bytes; a longer one is refused, and the kernel makes none


def memory_ran_out(container_id: str) -> bool:
    """Whether a process of the container was killed for that, as far as the log goes back.

    Its cgroup's name has the id in it. False, too, to whoever may not read the log, which mostly
    is everybody but root.
    """
    try:
        log = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        while True:
            try:
                record = os.read(log, _RECORD)
            except BlockingIOError:  # the end
                return False
            except BrokenPipeError:  # that one was overwritten before we came to it
                continue
            if _SIGN in record and container_id.encode() in record:
                return True
    except OSError:
        return False
    finally:
        os.close(log)
