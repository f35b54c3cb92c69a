"""Which host this runs on, and whom it reaches."""

import os
import platform
import socket

print(f"Linux {platform.release()} with {os.cpu_count()} processors")
try:
    # An address for documentation: it is nobody's, and whoever has a way out waits for it.
    socket.create_connection(("198.51.100.1", 443), timeout=3).close()
except TimeoutError:
    print("nobody answers from outside")
except OSError as exc:
    print(f"no way out: {exc.strerror}")
