"""pytest's plugin: the fixture `container_kernel`, a started kernel in a container.

Every pytest run where this package is installed loads this file. So it imports nothing but pytest,
and does nothing until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .sandbox import Sandbox

_SCOPES = ("function", "class", "module", "package", "session")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("container kernels")
    # Not shorter: pytest-docker has --container-scope.
    for name, metavar, text in (
        ("image", "IMAGE", "the image that it runs in (this environment's own packages)"),
        ("engine", "ENGINE", "its engine: docker, podman, or a URL (the first that answers)"),
        ("scope", "SCOPE", f"how long it lives: {', '.join(_SCOPES)} (function)"),
    ):
        group.addoption(f"--container-kernel-{name}", metavar=metavar, help=text)
        parser.addini(f"container_kernel_{name}", f"of the fixture container_kernel: {text}")


def _option(config: pytest.Config, name: str) -> str:
    return str(config.getoption(name) or config.getini(name) or "")


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    return _option(config, "container_kernel_scope") or "function"


def pytest_configure(config: pytest.Config) -> None:
    # Here, for pytest takes an error in `_scope` for one of its own.
    scope = _scope("container_kernel", config)
    if scope not in _SCOPES:
        raise pytest.UsageError(
            f"container_kernel_scope is {scope!r}, and none of {', '.join(_SCOPES)}."
        )


@pytest.fixture(scope="session")
def container_kernel_settings() -> dict[str, Any]:
    """Settings of `container_kernel`, to be overridden: the arguments of `Sandbox`.

    What is named here wins over the options and the configuration file.
    """
    return {}


@pytest.fixture(scope=_scope)
def container_kernel(
    request: pytest.FixtureRequest, container_kernel_settings: dict[str, Any]
) -> Iterator[Sandbox]:
    """A started kernel in a container: a `container_provisioner.Sandbox`.

    It sees the project (pytest's rootdir) read-only, at its own path, and is started there.
    """
    from .sandbox import Sandbox

    config = request.config
    settings: dict[str, Any] = {"folder": config.rootpath}
    if image := _option(config, "container_kernel_image"):
        settings["image"] = image
    if engine := _option(config, "container_kernel_engine"):
        settings["engine_url" if "://" in engine else "engine"] = engine
    with Sandbox(**{**settings, **container_kernel_settings}) as sandbox:
        yield sandbox
