"""Where an engine is, as one URL: it stands in records, and every process can connect by it."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.tls import TLSConfig

from ..errors import ConfigurationError
from ..topology import SWARM

SCHEMES = ("unix", "tcp", "ssh")
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")


def with_tls(url: str, folder: str) -> str:
    """`url` and the folder of the client's certificate, as one URL (libvirt's ``pkipath``)."""
    return f"{url.partition('?')[0].rstrip('/')}?tls={quote(folder)}"


def split_tls(url: str) -> tuple[str, str]:
    """The inverse. The folder is empty where there is none."""
    bare, _, query = url.partition("?")
    return bare, unquote(parse_qs(query).get("tls", [""])[0])


def check_url(url: str) -> None:
    """Raises `ConfigurationError` for what is no address of an engine, or lacks its certificate."""
    bare, folder = split_tls(url.removeprefix(SWARM))
    parts = urlsplit(bare)
    place = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in SCHEMES or not place:
        raise ConfigurationError(
            f"engine_url {url!r} is no address of an engine. Use unix:///var/run/docker.sock, "
            "tcp://HOST:2376?tls=FOLDER (a folder with ca.pem, cert.pem and key.pem), or "
            "ssh://USER@HOST."
        )
    if parts.scheme == "tcp" and folder:
        missing = [name for name in TLS_FILES if not Path(folder, name).is_file()]
        if missing:
            raise ConfigurationError(
                f"engine_url {url!r}: {folder} holds no {', '.join(missing)}. They are what "
                "'docker --tlsverify' takes; name the folder that holds them."
            )


def is_encrypted(url: str) -> bool:
    """Whether nobody between here and the engine can read what is said, or nobody is between."""
    bare, folder = split_tls(url.removeprefix(SWARM))
    parts = urlsplit(bare)
    if parts.scheme in ("unix", "ssh") or folder:
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def client_options(url: str) -> dict[str, Any]:
    """What the SDK's `APIClient` is given to connect there.

    The server's certificate is always verified.
    """
    bare, folder = split_tls(url.removeprefix(SWARM))
    if not folder:
        return {"base_url": bare}
    ca, certificate, key = (str(Path(folder, name)) for name in TLS_FILES)
    return {
        "base_url": bare,
        "tls": TLSConfig(client_cert=(certificate, key), ca_cert=ca, verify=True),
    }


def from_environment(environ: Mapping[str, str]) -> str:
    """``DOCKER_HOST``, with ``DOCKER_TLS_VERIFY`` and ``DOCKER_CERT_PATH``; empty when not set.

    See "Environment variables" in the docker CLI's reference.
    """
    host = environ.get("DOCKER_HOST", "")
    if not host.startswith("tcp://") or "?" in host:
        return host
    folder = environ.get("DOCKER_CERT_PATH", "")
    if not folder and environ.get("DOCKER_TLS_VERIFY"):
        folder = str(Path.home() / ".docker")
    return with_tls(host, folder) if folder else host


def from_context(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """URL and name of the docker CLI's current context; None for the default one.

    Raises `ConfigurationError` for one that is not there or cannot be read.
    """
    name = environ.get("DOCKER_CONTEXT") or get_current_context_name()
    if name in ("", "default"):
        return None
    try:
        context = ContextAPI.get_context(name)
    except Exception as exc:  # the SDK raises just that
        raise ConfigurationError(f"The docker context {name!r} cannot be read: {exc}") from exc
    if context is None:
        raise ConfigurationError(
            f"There is no docker context {name!r}, which is the current one. 'docker context ls' "
            "shows those there are; 'docker context use default' goes back."
        )
    url = context.endpoints["docker"]["Host"]
    folder = Path(context.tls_path, "docker")
    return (with_tls(url, str(folder)) if folder.is_dir() else url), name


def usual_sockets(environ: Mapping[str, str], home: Path) -> Iterator[tuple[str, str]]:
    """Where Docker listens when nobody has said otherwise: URL and what is there."""
    yield "unix:///var/run/docker.sock", "Docker's usual socket"
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield f"unix://{Path(runtime, 'docker.sock')}", "rootless Docker's socket"
    for path, whose in (
        (".docker/run/docker.sock", "Docker Desktop's socket"),
        (".docker/desktop/docker.sock", "Docker Desktop's socket"),
        (".colima/default/docker.sock", "Colima's socket"),
    ):
        if os.path.exists(home / path):  # noqa: PTH110 - never raises
            yield f"unix://{home / path}", whose
