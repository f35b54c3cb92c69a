"""In the host's environment a kernel finds what the same interpreter finds on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from .conftest import StartKernel
from .seen import seen

pytestmark = pytest.mark.docker

WITNESSES = {
    "shared libraries": """
import ctypes, ctypes.util
seen = {name: ctypes.util.find_library(name) for name in ("c", "m", "z", "ssl", "stdc++")}
ctypes.CDLL(seen["c"])
""",
    "alternatives": """
import os
seen = sorted(name for name in os.listdir("/etc/alternatives")
              if os.path.realpath(f"/etc/alternatives/{name}").startswith("/usr/")
              and os.path.exists(f"/etc/alternatives/{name}"))
""",
    "certificates": """
import os, ssl
paths = ssl.get_default_verify_paths()
folder = paths.openssl_capath
context = ssl.create_default_context()
if os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
    context.load_verify_locations("/etc/ssl/certs/ca-certificates.crt")
readable = os.path.isdir(folder) and [n for n in os.listdir(folder)
                                      if os.path.isfile(os.path.join(folder, n))]
seen = [list(paths), sorted(readable or []), context.cert_store_stats()]
""",
    "local time": """
import time
seen = [time.tzname, time.localtime(0).tm_hour]
""",
    "programs": """
import shutil
seen = {name: shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
        for name in ("sh", "bash", "ls", "git", "gcc", "perl", "env")}
""",
    "compiled modules": """
import bz2, ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib, zmq
seen = [sqlite3.sqlite_version, ssl.OPENSSL_VERSION, zmq.zmq_version(), zlib.ZLIB_RUNTIME_VERSION]
""",
    "installed packages": """
import importlib.metadata
seen = sorted({dist.name for dist in importlib.metadata.distributions()})
""",
}


def seen_here(code: str) -> object:
    """The same, by this host's interpreter in a process of its own."""
    script = f"{code}\nimport json; print(json.dumps(seen))"
    unset = ("SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", script]
    return json.loads(subprocess.check_output(command, text=True, env=variables))


async def test_kernel_finds_what_the_host_has(start_kernel: StartKernel):
    kernel = await start_kernel()
    there = {name: await seen(kernel, code) for name, code in WITNESSES.items()}
    assert there == {name: seen_here(code) for name, code in WITNESSES.items()}


async def test_large_packages_work(start_kernel: StartKernel):
    """Compiled modules with libraries of their own, fonts, and a cache in the home directory."""
    kernel = await start_kernel()
    drawing = "import io, matplotlib.pyplot as plt; plt.text(0, 0, 'x'); plt.savefig(io.BytesIO())"
    assert "Error" not in await kernel.run(drawing, timeout=120)
    solving = "import numpy as np; np.linalg.solve(2 * np.eye(2), np.ones(2)).tolist()"
    assert await kernel.run(solving) == "[0.5, 0.5]"
