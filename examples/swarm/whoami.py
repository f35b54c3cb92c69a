"""Which task this is, as far as it can see."""

import os
import platform

print(
    f"{platform.node()}: process {os.getpid()} of user {os.getuid()}, {os.cpu_count()} processors"
)
