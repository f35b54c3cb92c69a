"""Which containers can be warmed, and what makes two of them the same."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from ..command import ENVIRONMENT_FILE, PRIVATE_DIR, is_python
from ..connection import is_encrypted
from ..definition import LaunchRequest
from ..environment import with_environment_file
from ..preparation import Preparation
from ..spec import ContainerSpec
from ..store import place_secret
from . import standby

STANDBY = "standby.py"
SESSION_FILE, CLAIM_SOCKET = standby.SESSION_FILE.name, standby.CLAIM_SOCKET.name

# Of one kernel, not of all that a kernelspec starts. They are handed over with the claim; every
# other variable has to be the same, because a Python may have read it when it started.
SESSION_VARIABLES = ("JPY_SESSION_NAME", "KERNEL_*")

_MODULES = ("ipykernel_launcher", "ipykernel")
_WITH_VALUE = ("-X", "-W")


@cache
def standby_source() -> str:
    return Path(__file__).with_name(STANDBY).read_text(encoding="utf-8")


def standby_argv(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    """The command of a container that waits; None for a kernel that cannot.

    That is ``python [options] -m ipykernel_launcher …``; others start as they always do.
    """
    if not argv or not is_python(argv[0]) or "-m" not in argv:
        return None
    at = argv.index("-m")
    options = argv[1:at]
    for before, option in zip((argv[0], *options), options, strict=False):
        if option in ("-c", "-") or not (option.startswith("-") or before in _WITH_VALUE):
            return None  # the -m is another program's
    if argv[at + 1 : at + 2] not in [(module,) for module in _MODULES]:
        return None
    return (argv[0], *options, f"{PRIVATE_DIR}/{STANDBY}", *argv)


def of_session(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are one kernel's own."""
    return {
        name: value
        for name, value in environment.items()
        if any(fnmatchcase(name, pattern) for pattern in SESSION_VARIABLES)
    }


def as_template(request: LaunchRequest) -> LaunchRequest:
    """The same request for nobody: without an id, a key, and anything else of one kernel."""
    session, settings = of_session(request.environment), request.settings
    return replace(
        request,
        kernel_id="",
        environment={k: v for k, v in request.environment.items() if k not in session},
        connection_info={**request.connection_info, "key": ""},
        settings=replace(
            settings,
            on_server_exit="stop",
            # Asking the registry is for a launch; the pool looks what the engine has.
            pull_policy="missing" if settings.pull_policy == "always" else settings.pull_policy,
        ),
        server="",
    )


def can_be_warm(prepared: Preparation) -> bool:
    """Whether its kernel can wait. One with encrypted messages cannot: the keys come too late."""
    encrypted = is_encrypted(prepared.request.connection_info)
    return standby_argv(prepared.root.argv) is not None and not encrypted


def specification_digest(prepared: Preparation, engine_url: str) -> str:
    """Sixteen digits that a warm container and a launch share when it is exactly what is wanted.

    Keyed, because it stands in a label, and values of environment variables are in it.
    """
    request, root = prepared.request, prepared.root
    session = of_session(request.environment)
    facts = [
        engine_url,
        # The command as it is without the shell that may hand over variables.
        replace(prepared.spec, argv=root.argv).digest(),
        sorted(root.environment.items()),
        sorted((k, v) for k, v in request.environment.items() if k not in session),
        root.version,
        standby_source(),
        request.settings.transport,
        request.kernel_name,
    ]
    text = json.dumps(facts).encode("ascii")
    return hmac.new(place_secret(), text, hashlib.sha256).hexdigest()[:16]


def waiting_spec(prepared: Preparation) -> ContainerSpec:
    """Of a template that `can_be_warm`: the container, waiting instead of running a kernel."""
    argv = standby_argv(prepared.root.argv) or ()
    wrapped = prepared.spec.argv != prepared.root.argv
    return replace(
        prepared.spec, argv=with_environment_file(argv, ENVIRONMENT_FILE) if wrapped else argv
    )
