"""A recipe, a base and this host's network, put together for the engine."""

from __future__ import annotations

from collections.abc import Mapping

from .. import labels
from ..engine.base import BuildRequest
from ..engine.build_context import build_context
from .host_network import HOST_CA, HostNetwork
from .recipe import Recipe
from .replaced import full_name

_GENERATED = "Dockerfile.container-kernel"
# Of a folder without a .dockerignore. The user's own Dockerfile may want them.
_IGNORED = (".git", ".venv", "venv", "**/__pycache__", "**/.ipynb_checkpoints", "**/node_modules")

# What steps are called that are not the user's own: by patterns, the first that matches.
_LABEL = {rf"LABEL .*{labels.BUILT_AS}": "noting that this command has built it"}
_TITLES = {
    r"RUN .* pip install .*\$\{PACKAGES\}": "pip install ${PACKAGES}",
    r"RUN .* pip install .*requirements\.txt": "pip install -r requirements.txt",
    r"RUN .*conda env create": "conda env create --file environment.yml",
    r"RUN .*apt-get install .*python3-venv": "apt-get install python3-venv",
    r"RUN .*apt-get install .*r-cran-irkernel": "apt-get install r-base-core r-cran-irkernel",
    r"RUN .*apt-get install .*\$\{PACKAGES\}": "apt-get install ${PACKAGES}",
    r"RUN .*apt-get install .*python3 ": "apt-get install python3, if it is missing",
    r"RUN echo 'kernel:": "adding the user 'kernel'",
}


def _titles(recipe: Recipe, arguments: Mapping[str, str]) -> Mapping[str, str]:
    if recipe.is_users:
        return _LABEL
    # Not those of the user's, which may hold the login of an index.
    packages = recipe.arguments.get("PACKAGES") or recipe.packages
    if "PACKAGES" in arguments or not packages:
        return {**_LABEL, **_TITLES}
    titles = {pattern: title.replace("${PACKAGES}", packages) for pattern, title in _TITLES.items()}
    return {**_LABEL, **titles}


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
        labels={labels.BUILT_AS: full_name(recipe.image)},
        network=network or ("host" if host.proxy_is_here else ""),
        use_cache=use_cache,
        titles=_titles(recipe, arguments or {}),
    )
