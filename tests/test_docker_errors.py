"""Whatever the SDK raises arrives as one of our errors, and says what was being done."""

from __future__ import annotations

import inspect
from importlib.metadata import requires

import docker.errors
import pytest
import requests
import urllib3.exceptions
from packaging.requirements import Requirement

from container_provisioner.engine.docker_errors import engine_errors
from container_provisioner.errors import (
    CommandMissing,
    ConfigurationError,
    ContainerGone,
    ContainerProvisionerError,
    EngineError,
    EngineMismatch,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
    NetworkMissing,
    RuntimeMissing,
    WorkspaceError,
)


def translated(exc: BaseException, **about: str) -> ContainerProvisionerError:
    with (
        pytest.raises(ContainerProvisionerError) as caught,
        engine_errors(doing="Doing it", **about),
    ):
        raise exc
    assert caught.value.__cause__ is exc
    return caught.value


def instance(kind: type[BaseException]) -> BaseException:
    """An exception of that class, a word for each argument that it needs."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return kind(*["word"] * len(needed))


SDK_ERRORS = [
    value
    for value in vars(docker.errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("kind", SDK_ERRORS, ids=lambda kind: kind.__name__)
def test_every_exception_of_the_sdk_is_one_of_ours(kind: type[Exception]):
    assert isinstance(translated(instance(kind)), EngineError)


@pytest.mark.parametrize(
    "exc",
    [
        requests.exceptions.ConnectionError("reset by peer"),
        requests.exceptions.ReadTimeout("timed out"),
        requests.exceptions.ChunkedEncodingError("cut short"),
        requests.exceptions.JSONDecodeError("no JSON", "", 0),
        urllib3.exceptions.ProtocolError("broken"),
        urllib3.exceptions.ReadTimeoutError(None, "url", "timed out"),  # type: ignore[arg-type]
        docker.errors.StreamParseError("cut short"),
        ConnectionResetError(104, "reset by peer"),
        BrokenPipeError(32, "broken pipe"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_no_answer_is_told_from_a_refusal(exc: Exception):
    """F11: after these nobody knows how the containers are, and nothing may be concluded."""
    error = translated(exc)
    assert type(error) is EngineUnavailable
    assert str(error).startswith("Doing it: no answer from the engine (")


def refusal(status: int, words: str) -> docker.errors.APIError:
    """As the SDK makes it of an engine's answer."""
    response = requests.Response()
    response.status_code, response._content = status, words.encode()
    try:
        docker.errors.create_api_error_from_http_exception(requests.HTTPError(response=response))
    except docker.errors.APIError as exc:
        return exc
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    ("status", "words", "kind", "says"),
    [
        (404, "No such image: kernel:1", ImageMissing, "Image 'kernel:1' is not present"),
        (404, "No such container: 5f0c", ContainerGone, "Doing it: No such container: 5f0c"),
        (404, "network lab not found", NetworkMissing, "Doing it: network lab not found"),
        (
            409,
            'Conflict. The container name "/a" is already in use by container "5f0c".',
            NameTaken,
            "already in use",
        ),
        (409, "Container 5f0c is not running", EngineError, "is not running"),
        (
            400,
            "no such image: Kernel: invalid reference format: repository name must be lowercase",
            ConfigurationError,
            "'kernel:1' cannot be the name of an image (invalid reference format: repository",
        ),
        (500, "no space left on device", EngineError, "Doing it: no space left on device"),
        (400, "Minimum memory limit allowed is 6MB", EngineError, "6MB. Raise memory_limit"),
        (
            400,
            'invalid mount config for type "bind": bind source path does not exist: /data',
            WorkspaceError,
            "/data",
        ),
        (
            403,
            "<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n"
            "</body></html>",
            EngineError,
            "Doing it: 403 Forbidden Request forbidden by administrative rules. It is not the "
            "engine that says so, but a proxy before it.",
        ),
        (400, "Unknown runtime specified runsc", RuntimeMissing, "no runtime 'runsc'"),
        (400, "unknown or invalid runtime name: runsc", RuntimeMissing, "no runtime 'runsc'"),
        (
            400,
            "failed to create task for container: failed to create shim task: OCI runtime create "
            'failed: runc create failed: unable to start container process: exec: "python": '
            "executable file not found in $PATH: unknown",
            CommandMissing,
            "Image 'kernel:1' has no command 'python'",
        ),
        (
            400,
            "client version 1.24 is too old. Minimum supported API version is 1.44, please "
            "upgrade your client to a newer version",
            EngineMismatch,
            "Minimum supported API version is 1.44",
        ),
        (
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.41",
            EngineMismatch,
            "Unset DOCKER_API_VERSION",
        ),
    ],
)
def test_a_refusal_keeps_the_engines_own_words(
    status: int, words: str, kind: type[ContainerProvisionerError], says: str
):
    """F39, where the versions do not fit; recorded from engines 20.10 to 29."""
    error = translated(refusal(status, words), image="kernel:1", runtime="runsc")
    assert type(error) is kind
    assert says in str(error)


def test_an_sdk_too_old_for_the_installed_requests_is_named_with_the_pin():
    """F39: docker-py#3256, what every SDK before 7.1 says with requests 2.32."""
    words = "Error while fetching server API version: Not supported URL scheme http+docker"
    error = translated(docker.errors.DockerException(words))
    assert type(error) is EngineMismatch
    assert "Install docker>=7.1." in str(error)


def test_the_pin_is_that_of_the_package():
    """F39: the message and the metadata cannot disagree."""
    (pin,) = (
        requirement
        for requirement in map(Requirement, requires("container-provisioner") or ())
        if requirement.name == "docker"
    )
    assert str(pin.specifier) == ">=7.1"
