"""A recipe, a base and this host's network, put together for the engine."""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.base import BuildRequest
from ..engine.build_context import build_context
from .host_network import HOST_CA, HostNetwork
from .recipe import Recipe

DOCKERFILE = "Dockerfile"
_GENERATED = "Dockerfile.container-kernel"
# Of a folder without a .dockerignore. The user's own Dockerfile may want them.
_IGNORED = (".git", ".venv", "venv", "**/__pycache__", "**/.ipynb_checkpoints", "**/node_modules")


def build_request(
    recipe: Recipe,
    *,
    base: str = "",
    arguments: Mapping[str, str] | None = None,
    host: HostNetwork = HostNetwork(),  # noqa: B008 - frozen
    network: str = "",
    use_cache: bool = True,
) -> BuildRequest:
    """`base` and `arguments` are the user's, and win over what the recipe and the host say.

    Of `host` nothing gets into the image: the engine keeps proxies out of an image's history and
    variables, and the authorities lie in the context, for a stage that is not kept. A Dockerfile
    of the user's gets them when it names the file ``host-ca.crt``.

    Raises `ConfigurationError` for a file that cannot be read.
    """
    files = dict(recipe.files)
    if host.authorities and HOST_CA in recipe.dockerfile:
        files[HOST_CA] = host.authorities
    dockerfile = recipe.source if recipe.is_users else _GENERATED
    if not recipe.is_users:
        files[_GENERATED] = recipe.dockerfile
    return BuildRequest(
        image=recipe.image,
        context=build_context(
            recipe.folder,
            dockerfile=dockerfile,
            files=files,
            ignored=() if recipe.is_users else _IGNORED,
        ),
        dockerfile=dockerfile,
        arguments={
            **host.proxies,
            **recipe.arguments,
            **({"BASE": base} if base else {}),
            **(arguments or {}),
        },
        network=network or ("host" if host.proxy_is_here else ""),
        use_cache=use_cache,
    )
