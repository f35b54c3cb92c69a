"""Which engine: the configured one, else the first that answers where engines usually are."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import EngineNotFound, EngineUnavailable
from ..topology import SWARM
from .address import check_url, from_context, from_environment, is_encrypted, usual_sockets
from .base import ContainerEngine
from .calls import Engine
from .docker_engine import DockerEngine
from .docker_services import SwarmEngine
from .podman import PodmanEngine
from .podman_service import PodmanService, is_installed

_log = logging.getLogger(__name__)

PODMAN_SOCKET = "podman/podman.sock"  # below /run, or below XDG_RUNTIME_DIR without root

WAITING_SECONDS = 3.0  # for an engine that does not answer, until somebody is told

_TIMEOUT = re.compile(r"read timeout=([\d.]+)")

_engines: dict[str, Engine] = {}
# A forked child has the parent's sockets and none of its threads.
os.register_at_fork(after_in_child=_engines.clear)


def candidates(choice: str, url: str, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """URLs to try, in order, each with what names it.

    `choice` is auto, docker or podman; a `url` is the only candidate. Docker is looked for as its
    own command does: what the environment or the current context names is the only one of it.
    """
    if url:
        yield url, "engine_url"
        return
    if choice in ("auto", "docker"):
        if named := from_environment(environ):
            yield named, "DOCKER_HOST"
        elif context := from_context(environ):
            yield context[0], f"docker context {context[1]}"
        else:
            yield from usual_sockets(environ, Path.home())
    if choice in ("auto", "podman"):
        if "CONTAINER_HOST" in environ:
            yield environ["CONTAINER_HOST"], "CONTAINER_HOST"
        else:
            for folder in filter(None, (environ.get("XDG_RUNTIME_DIR"), "/run")):
                yield f"unix://{Path(folder) / PODMAN_SOCKET}", "Podman's usual socket"
            # Who names an engine wants that one, or none.
            if not (choice == "auto" and environ.get("DOCKER_HOST")) and is_installed(environ):
                yield PodmanService().url, "Podman, started by this package"


async def open_swarm(engine: Engine) -> Engine:
    """The swarm that an engine manages, as an engine whose containers are services.

    Raises `EngineMismatch` when it manages none.
    """
    if engine.url.startswith(SWARM):
        return engine
    return await open_engine("auto", SWARM + engine.url)


async def open_engine(
    choice: str = "auto",
    url: str = "",
    *,
    environ: Mapping[str, str] = os.environ,
    log: logging.Logger | None = None,
    adapter: Callable[[str], ContainerEngine] | None = None,
) -> Engine:
    """The engine, answering; the same object for the same URL within a process.

    Raises `EngineNotFound` naming each place that was tried, `EngineMismatch` when one answered
    that cannot be used, `ConfigurationError` for a URL of a kind that is not supported.
    """
    tried: list[tuple[str, str]] = []
    for place, _ in candidates(choice, url, environ):
        check_url(place)
        engine = _engines.get(place)
        if engine is None:
            engine = Engine((adapter or _adapter)(place))
            waiting = asyncio.get_running_loop().call_later(
                WAITING_SECONDS, (log or _log).info, "Waiting for the engine at %s…", place
            )
            try:
                if (await engine.info()).name == "podman" and adapter is None:
                    engine = _as_podman(engine)
                    await engine.info()
                await engine.look_around()
            except BaseException as exc:
                engine.close()
                if not isinstance(exc, EngineUnavailable):
                    raise
                tried.append((place, _reason(exc)))
                continue
            finally:
                waiting.cancel()
            if (first := _engines.setdefault(place, engine)) is not engine:
                engine.close()  # somebody else opened it meanwhile
                engine = first
            elif log is not None and not (engine.is_local or is_encrypted(place)):
                log.warning(
                    "The engine at %s is spoken to without encryption: whoever is on the way can "
                    "read kernels' keys, and start containers there. Use TLS, or ssh://.",
                    place,
                )
        if log is not None:
            engine.watcher.log = log
        return engine
    raise EngineNotFound(tried)


def opened_engines() -> list[Engine]:
    """All that this process uses."""
    return list(_engines.values())


def close_engines() -> None:
    """Stop every engine's threads and connections of this process. They open again on demand."""
    while _engines:
        _engines.popitem()[1].close()


def _adapter(url: str) -> ContainerEngine:
    """What speaks to the engine at that URL, or to its swarm."""
    if url.startswith(SWARM):
        return SwarmEngine(url)
    service = PodmanService()
    return PodmanEngine(url, service=service) if url == service.url else DockerEngine(url)


def _as_podman(engine: Engine) -> Engine:
    """With the adapter for Podman: that it is one was known only when it had answered."""
    if isinstance(engine.adapter, PodmanEngine):
        return engine
    engine.close()
    return Engine(PodmanEngine(engine.url))


def _reason(exc: BaseException) -> str:
    words = str(exc)
    if timeout := _TIMEOUT.search(words):
        return f"it took the call and gave no answer within {float(timeout[1]):g} s"
    for sign in ("Permission denied", "No such file or directory", "Connection refused"):
        if sign in words:
            return sign.lower()
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return "its certificate is not of the authority in ca.pem, or not for this host"
    return words.rpartition("(")[2].rstrip(")") or words
