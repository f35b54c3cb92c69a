"""The SDK's exceptions, translated once, here, into ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import docker.errors
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from ..errors import (
    CommandMissing,
    ConfigurationError,
    ContainerGone,
    EngineError,
    EngineMismatch,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
    NetworkMissing,
    RuntimeMissing,
    WorkspaceError,
)

_COMMAND = re.compile(
    r'exec: \\?"(?P<command>[^"\\]+)\\?":? (stat .*: )?'
    r"(executable file not found|no such file or directory|permission denied)"
)
_RUNTIME = re.compile(
    r"unknown or invalid runtime name|unknown runtime specified|no such runtime", re.I
)
_REFERENCE = re.compile(r"invalid reference format.*")
_SOURCE = re.compile(
    r"bind (mount )?source path does not exist|statfs .*no such file"
    r"|error mounting .* to rootfs .*no such file|mount `.*` to `.*`: no such file",
    re.I,
)
_NETWORK = re.compile(r"(^|: )network (.* )?not found|unknown network", re.I)
_NO_IMAGE = re.compile(r"no such image|image not known", re.I)
_GONE = "does not exist in database: no such container"  # Podman, while it removes it: 500
_NAME_TAKEN = re.compile(r"the container name .* is already in use", re.I)
# Where the engine's own words do not say what to do.
_NEXT_STEPS = {
    re.compile(r"minimum memory limit", re.I): (
        ". Raise memory_limit ('install --memory'): a Python kernel takes about 100m."
    ),
    re.compile(r"could not select device driver .*gpu"): (
        ". The engine cannot hand out GPUs: install the vendor's container toolkit, or unset gpus."
    ),
    re.compile(r"^403 Forbidden"): (
        ". It is not the engine that says so, but a proxy before it. If this is wanted, let the "
        "proxy pass it: docs/compose.md says what is asked of an engine."
    ),
}


@contextmanager
def engine_errors(*, doing: str, image: str = "", runtime: str = "") -> Iterator[None]:
    """Run SDK calls; what they raise arrives as an `EngineError` that says what was being done."""
    try:
        yield
    except docker.errors.APIError as exc:
        raise _refusal(exc, doing=doing, image=image, runtime=runtime) from exc
    except docker.errors.InvalidVersion as exc:
        raise EngineMismatch(
            f"{doing}: this engine and the docker SDK share no API version ({exc}). "
            "Bring the older of the two up to date, and let DOCKER_API_VERSION be unset."
        ) from exc
    # With a pinned API version a dead socket arrives as a bare requests error; a stream that is
    # cut short as one of urllib3's, or as whatever the JSON parser makes of it.
    except (
        docker.errors.DockerException,
        docker.errors.StreamParseError,
        RequestException,
        HTTPError,
        OSError,
    ) as exc:
        if "http+docker" in str(exc) and "scheme" in str(exc).lower():
            raise EngineMismatch(
                f"{doing}: this docker SDK does not work with the installed requests. "
                "Install docker>=7.1."
            ) from exc
        raise EngineUnavailable(f"{doing}: no answer from the engine ({_short(exc)})") from exc


def _refusal(
    exc: docker.errors.APIError, *, doing: str, image: str, runtime: str
) -> EngineError | ConfigurationError:
    """The engine answered, and the answer is no."""
    words = _plain(str(exc.explanation or exc))
    status = exc.response.status_code if exc.response is not None else 0
    if image and (malformed := _REFERENCE.search(words)):
        return ConfigurationError(
            f"{image!r} cannot be the name of an image ({malformed[0]}). One looks like "
            "'quay.io/jupyter/scipy-notebook:latest', in small letters."
        )
    if isinstance(exc, docker.errors.ImageNotFound) or (
        image and status == 404 and _NO_IMAGE.search(words)
    ):
        return ImageMissing(image)
    if "client version" in words and ("too old" in words or "too new" in words):
        return EngineMismatch(
            f"{doing}: the engine refuses this API version: {words}. "
            "Unset DOCKER_API_VERSION, or update the older of the SDK and the engine."
        )
    if runtime and _RUNTIME.search(words):
        return RuntimeMissing(runtime, words)
    if command := _COMMAND.search(words):
        return CommandMissing(command["command"], image)
    if _SOURCE.search(words):
        return WorkspaceError(
            f"{doing}: {words}. Mounts name paths of the engine's host; create the path, "
            "or correct it in mounts."
        )
    if (status == 404 or "unable to find network" in words) and _NETWORK.search(words):
        return NetworkMissing(
            f"{doing}: {words}. Create that network in the engine, or correct the setting network."
        )
    if isinstance(exc, docker.errors.NotFound) or _GONE in words:
        return ContainerGone(f"{doing}: {words}")
    if (status == 409 and "already in use" in words) or _NAME_TAKEN.search(words):
        return NameTaken(f"{doing}: {words}")
    hint = next((text for sign, text in _NEXT_STEPS.items() if sign.search(words)), "")
    return EngineError(f"{doing}: {words}{hint}")


def _plain(words: str) -> str:
    """Without the markup of a proxy's page; the engine itself writes none."""
    if "<html" not in words.lower():
        return words.strip()
    return " ".join(re.sub(r"<[^>]*>", " ", words).split()).rstrip(".")


def _short(exc: BaseException) -> str:
    """The innermost cause: requests wraps the one telling line in three others."""
    while True:
        inner = next((arg for arg in exc.args if isinstance(arg, BaseException)), None)
        inner = inner or getattr(exc, "reason", None)
        if not isinstance(inner, BaseException) or inner is exc:
            return str(exc) or type(exc).__name__
        exc = inner
