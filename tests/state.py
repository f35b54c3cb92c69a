"""A kernel's state, as code in a cell sees it. `state` runs inside; it needs nothing around it."""

from __future__ import annotations

import inspect
import json
from typing import Any

from .conftest import Kernel


def state() -> dict[str, Any]:
    """Everything that a user's code could ask about its process, its interpreter and IPython."""
    import asyncio
    import atexit
    import builtins
    import collections
    import contextlib
    import faulthandler
    import gc
    import io
    import json
    import locale
    import logging
    import os
    import random
    import resource
    import signal
    import subprocess
    import sys
    import threading
    import time
    import warnings
    from pathlib import Path

    import ipykernel
    from ipykernel.kernelapp import IPKernelApp
    from IPython import get_ipython

    journal = "-journal"  # there while IPython's thread writes the history
    shell: Any = get_ipython()
    app: Any = IPKernelApp.instance()
    kernel, main = shell.kernel, sys.modules["__main__"]
    connection = Path(ipykernel.get_connection_file())

    def magic(name: str, line: str = "") -> str:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            shell.run_line_magic(name, line)
        return text.getvalue()

    def type_of(value: object) -> str:
        return f"{type(value).__module__}.{type(value).__qualname__}"

    def name_of(value: object) -> str:
        return str(value).partition(" at ")[0]

    def descriptors() -> dict[str, int]:
        kinds = []
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # the listing's own
                target = str(entry.readlink())
                if target.endswith(journal):
                    continue
                inherited = "inherited" if os.get_inheritable(int(entry.name)) else "closed"
                kinds.append(f"{target.partition(':')[0]} {inherited}")
        return collections.Counter(kinds)

    def unix_sockets() -> list[str]:
        rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
        return sorted(f"{row[7]} {row[5]}" for row in rows if len(row) > 7)

    def loggers() -> dict[str, Any]:
        every = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
        return {
            name: [log.level, log.propagate, log.disabled, [*map(type_of, log.handlers)]]
            for name, log in every.items()
            if isinstance(log, logging.Logger)
        }

    def below(folder: str | Path) -> list[str]:
        found = (str(path.relative_to(folder)) for path in Path(folder).rglob("*"))
        return sorted(name for name in found if not name.endswith(journal))

    def environment_of_a_child() -> dict[str, str]:
        code = "import json, os; print(json.dumps(dict(os.environ)))"
        return json.loads(subprocess.check_output([sys.executable, "-c", code]))

    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    umask = os.umask(0)
    os.umask(umask)
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)

    return {
        "environ": dict(os.environ),
        "environ of a child": environment_of_a_child(),
        "environ at first": sorted(Path("/proc/self/environ").read_text().split("\0")),
        "command": [*filter(None, Path("/proc/self/cmdline").read_text().split("\0"))],
        "command's name": status["Name"],
        "process": [os.getpgrp() == os.getpid(), os.getppid(), os.getsid(0), os.nice(0)],
        "cwd": str(Path.cwd()),
        "umask": umask,
        "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
        "privileges": {name: status[name] for name in status if name.startswith(("Cap", "NoNew"))},
        "signals": {
            name: status[name]
            for name in status
            if name.startswith("Sig") and name != "SigQ"  # counts those of all of the user's
        },
        "handlers": {
            str(number): getattr(signal.getsignal(number), "__qualname__", "")
            for number in signal.valid_signals()
        },
        "wakeup": wakeup,
        "limits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        },
        "descriptors": descriptors(),
        "unix sockets": unix_sockets(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "is main thread": threading.current_thread() is threading.main_thread(),
        "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)],
        "time zone": time.tzname,
        "sys.argv": sys.argv,
        "sys.orig_argv": getattr(sys, "orig_argv", None),
        "sys.executable": sys.executable,
        "sys.flags": str(sys.flags),
        "sys.options": [sys._xoptions, sys.warnoptions],
        "sys.path": sys.path,
        "importers": [*map(name_of, sys.meta_path), *map(name_of, sys.path_hooks)],
        "modules": sorted(sys.modules),
        "streams": [
            type_of(getattr(sys, f"{dunder}{name}{dunder}"))
            for name in ("stdin", "stdout", "stderr")
            for dunder in ("", "__")
        ],
        "encodings": [sys.stdout.encoding, sys.__stdout__.encoding, sys.getfilesystemencoding()],
        "hooks": [
            *(name_of(getattr(sys, name)) for name in dir(sys) if name.endswith("hook")),
            name_of(threading.excepthook),
        ],
        "tracing": [sys.gettrace(), sys.getprofile(), faulthandler.is_enabled()],
        "intervals": [sys.getrecursionlimit(), sys.getswitchinterval()],
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        "warnings": [*map(str, warnings.filters)],
        "loggers": loggers(),
        "atexit": atexit._ncallbacks(),
        "builtins": sorted(vars(builtins)),
        "loop": [type_of(asyncio.get_running_loop()), asyncio.get_running_loop().is_running()],
        "tasks": sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks()),
        "__main__": [
            main is shell.user_module,
            *(str(getattr(main, name, None)) for name in ("__name__", "__doc__", "__spec__")),
            sorted(vars(main)),
        ],
        "names": sorted(shell.user_ns),
        "hidden names": sorted(shell.user_ns_hidden),
        "%who": magic("who"),
        "%history": magic("history", "-g"),
        "%connect_info": magic("connect_info").replace(kernel.session.key.decode(), "KEY"),
        "%lsmagic": magic("lsmagic"),
        "__session__": shell.user_ns.get("__session__"),
        "In, Out": [shell.user_ns[name] for name in ("In", "Out", "_", "__", "_i", "_ii", "_dh")],
        "execution_count": shell.execution_count,
        "history": [shell.history_manager.session_number, str(shell.history_manager.hist_file)],
        "config": [str(app.config), str(shell.config), app.extra_args],
        "extensions": sorted(shell.extension_manager.loaded),
        "events": {name: len(known) for name, known in shell.events.callbacks.items()},
        "transformers": [len(shell.input_transformers_post), len(shell.ast_transformers)],
        "profile": [shell.profile, app.ipython_dir],
        "home": below(Path.home()),
        "tmp": below("/tmp"),
        "private": below("/run/kernel"),
        "connection file": [str(connection), oct(connection.stat().st_mode)],
        "session": [app.session.signature_scheme, app.session.username, app.session.auth is None],
        "is one session": [
            user.session is app.session
            for user in (kernel, shell.display_pub, shell.displayhook, sys.stdout)
        ],
        "application": [app.parent_handle, app.interrupt, app.trio_loop, str(app.poller)],
        "debugger": bool(kernel.debugger),
        "own": {
            "key": kernel.session.key.decode(),
            "key in the file": json.loads(connection.read_text())["key"],
            "session": kernel.session.session,
            "identity": kernel.ident,
            "random": random.random(),
        },
    }


async def state_of(kernel: Kernel) -> dict[str, Any]:
    """`state` in this kernel, after one cell; what it needs leaves no trace in IPython."""
    assert await kernel.run("6 * 7") == "42"
    code = f"import json\n{inspect.getsource(state)}\nprint(json.dumps(state(), default=str))"
    text = await kernel.run(f"exec({code!r}, {{'Any': object}})", store_history=False)
    assert text.startswith("{"), text
    return dict(json.loads(text))


def differences(warm: dict[str, Any], cold: dict[str, Any]) -> dict[str, Any]:
    """What differs, by name: what only one of them has, as two lists; or as both values."""
    found: dict[str, Any] = {}
    for name in warm.keys() | cold.keys():
        one, other = warm.get(name), cold.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            inner = differences(one, other)
            found.update({f"{name}: {key}": value for key, value in inner.items()})
        elif one != other and isinstance(one, list) and isinstance(other, list):
            extra = ([x for x in one if x not in other], [x for x in other if x not in one])
            found[name] = extra if any(extra) else (one, other)
        elif one != other:
            found[name] = (one, other)
    return found
