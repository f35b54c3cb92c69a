"""The layer picture, as the imports say it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import container_provisioner

PACKAGE = Path(container_provisioner.__file__).parent

# From top to bottom, and from left to right: a module imports only what stands before it.
LAYERS = [
    ["errors", "labels", "exits"],
    ["spec", "topology", "policy", "command", "connection", "environment", "workspace"],
    ["engine", "transports", "store"],
    [
        *("host_environment", "pulling", "stages", "internal_network"),
        *("image", "root", "handle", "definition", "naming"),
    ],
    ["adoptable", "greeting", "adoption", "guard", "ownership"],
    [
        *("preparation", "creation", "warm", "making_way", "launcher"),
        *("leftover_files", "pruning"),
    ],
    [
        "turns",
        "launch_request",
        "trait_types",
        "config",
        "container_process",
        "spared_file",
        "provisioner",
        "swarm",
    ],
    [
        *("templates", "building", "kernelspecs", "attached", "copying", "sandbox", "diagnosis"),
        *("server", "cli", "pytest_plugin", "__main__"),
    ],
]
ADAPTERS = LAYERS[2]
ORDER = [module for layer in LAYERS for module in layer]

# Who may import a library that would be everywhere if nobody looked.
LIBRARIES = {
    "docker": {"engine"},
    "requests": {"engine"},
    "urllib3": {"engine"},
    "tenacity": {"engine", "naming"},
    "traitlets": {
        *("trait_types", "config", "container_process", "swarm"),
        *("attached", "sandbox", "diagnosis", "server", "cli"),
    },
    "jupyter_client": {
        *("container_process", "provisioner", "greeting", "guard"),
        *("attached", "templates", "kernelspecs", "sandbox", "diagnosis", "server", "cli"),
    },
    "jupyter_core": {"engine", "store", "attached", "kernelspecs", "diagnosis"},
    "jupyter_server": {"server"},
    "nbformat": {"sandbox"},
    "prometheus_client": {"server"},
    "pytest": {"pytest_plugin"},
    "zmq": {"greeting", "guard", "launch_request", "sandbox"},
    "asyncinotify": {"transports"},
    "packaging": {"diagnosis"},
    "click": {"cli"},
    "rich": {"cli"},
    "yaml": {"building"},
}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def area(path: Path) -> str:
    """``engine`` for everything in it, else the module's own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each import as ("", area of this package) or (library, "")."""
    package = ("container_provisioner", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            library, _, rest = name.partition(".")
            ours = library == "container_provisioner"
            yield ("", rest.split(".")[0]) if ours else (library, "")


def test_every_module_has_a_place() -> None:
    assert {area(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = area(path)
    for library, imported in imports(path):
        if imported and imported != own:
            assert ORDER.index(imported) < ORDER.index(own), f"imports {imported}"
        if imported in ADAPTERS and own in ADAPTERS and imported != own:
            assert (own, imported) == ("transports", "engine")
        assert own in LIBRARIES.get(library, {own}), f"imports {library}"


def test_transports_take_only_values_from_the_engine() -> None:
    for path in (PACKAGE / "transports").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("engine"):
                assert node.module == "engine.base"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_reads_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
