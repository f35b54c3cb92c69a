"""Where this runs: run it with a local kernel, too, and compare."""

import platform
import socket
import sys
from pathlib import Path

# Version 2 of control groups, or version 1.
limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
limit = next((Path(path).read_text().strip() for path in limits if Path(path).exists()), "?")

print(platform.freedesktop_os_release()["PRETTY_NAME"])
print(f"Python {platform.python_version()} of {sys.prefix}")
print(f"{limit} bytes of memory")
print("network interfaces:", *sorted(name for _, name in socket.if_nameindex()))
