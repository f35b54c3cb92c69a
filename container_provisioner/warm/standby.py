"""Runs inside a container: a Python kernel that is ready but for whose it is.

The container's own Python runs this file, which needs nothing but that and ipykernel. Its arguments
are the kernel's whole command, ``python … -m ipykernel_launcher …``. It does what that command
would do up to the point where something depends on the one kernel; then it waits on a socket. Who
connects has written ``session.json``: the environment variables of that kernel, and its key.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

PRIVATE_DIR = Path(__file__).parent
SESSION_FILE = PRIVATE_DIR / "session.json"
FILES = 512  # that may be open; see `make_room_for_files`
CLAIM_SOCKET = PRIVATE_DIR / "sockets" / "claim"


def main() -> None:
    command = sys.argv[1:]
    if SESSION_FILE.exists():
        # Started a second time: claimed before, and a kernel like any other now.
        os.environ.update(session()["environment"])
        os.execvp(command[0], command)  # noqa: S606
    app = initialized_kernel(command)
    make_room_for_files()
    # What it says to a kernel_info_request, so that nobody has to ask.
    answer = json.dumps({"status": "ok", **app.kernel.kernel_info}).encode("ascii") + b"\n"
    claimant = wait_for_claimant()
    adopt_session(app, session())
    claimant.sendall(answer)
    claimant.close()
    # Extensions, start-up files and exec_lines, now that they see the kernel's own environment.
    del app.init_extensions, app.init_code
    app.init_extensions()
    app.init_code()
    sys.stdout.flush()
    sys.stderr.flush()
    app.start()


def initialized_kernel(command: list[str]) -> Any:
    """What `IPKernelApp.launch_instance` does, less what a user's code could notice."""
    at = command.index("-m")
    module = command[at + 1]
    if sys.path and sys.path[0] == str(PRIVATE_DIR):
        # With -m it is the working directory, which ipykernel_launcher removes.
        sys.path[:1] = [] if module == "ipykernel_launcher" else [str(Path.cwd())]
    found = importlib.util.find_spec(module if module != "ipykernel" else "ipykernel.__main__")
    sys.argv = [str(found.origin) if found else module, *command[at + 2 :]]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = list(command)

    from ipykernel.kernelapp import IPKernelApp

    app: Any = IPKernelApp.instance()
    app.init_extensions = app.init_code = lambda: None
    app.initialize()
    return app


def make_room_for_files() -> None:
    """Linux lets a process with threads wait for 10 ms when its table of files has to grow: at the
    65th, which is when the first front end connects."""
    with contextlib.suppress(OSError):  # nobody may have so many here
        os.close(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, FILES - 1))


def wait_for_claimant() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    new = CLAIM_SOCKET.with_name(".claim")
    listener.bind(str(new))
    listener.listen(1)
    new.rename(CLAIM_SOCKET)  # who finds it finds somebody behind it
    claimant, _ = listener.accept()
    listener.close()  # one kernel, ever
    return claimant


def session() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(SESSION_FILE.read_text(encoding="ascii"))
    return facts


def adopt_session(app: Any, facts: dict[str, Any]) -> None:
    """Be that kernel. See `IPythonKernel.__init__` for what it takes from the environment."""
    os.environ.update(facts["environment"])
    app.session.signature_scheme = facts["signature_scheme"]
    app.session.key = facts["key"].encode("ascii")
    if os.environ.get("JPY_SESSION_NAME"):
        app.shell.user_ns["__session__"] = os.environ["JPY_SESSION_NAME"]


if __name__ == "__main__":
    main()
