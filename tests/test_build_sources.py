"""What an image is built from: shipped images, folders, and this host's network. No engine."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from container_provisioner.building import (
    HostNetwork,
    Recipe,
    build_request,
    folder_recipe,
    shipped_images,
    shipped_recipe,
)
from container_provisioner.building.sources import _CONDA
from container_provisioner.engine.base import BuildRequest
from container_provisioner.errors import ConfigurationError

PEM = "-----BEGIN CERTIFICATE-----\nof this test\n-----END CERTIFICATE-----\n"


def folder_of(path: Path, **files: str) -> Recipe:
    folder = path / "My Project"
    folder.mkdir()
    (folder / "data.bin").write_bytes(b"large")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder_recipe(folder)


def sent(request: BuildRequest) -> dict[str, str]:
    with request.context, tarfile.open(fileobj=request.context) as members:
        found = {}
        for member in members:
            file = members.extractfile(member) if member.isfile() else None
            found[member.name] = file.read().decode() if file else ""
        return found


def test_the_shipped_images_are_recipes_with_a_base_that_can_be_chosen() -> None:
    assert shipped_images() == ["bash", "python", "r", "scipy"]
    for name in shipped_images():
        recipe = shipped_recipe(name)
        assert recipe.image == f"container-provisioner/{name}"
        assert recipe.base
        assert "USER 1000:1000" in recipe.dockerfile


def test_python_and_scipy_differ_in_their_packages_only() -> None:
    python, scipy = (
        shipped_recipe(name).dockerfile.replace(f"images/{name}", "").replace(f"build {name}", "")
        for name in ("python", "scipy")
    )
    assert python.splitlines()[1:] == scipy.splitlines()[1:]


def test_each_command_of_ours_has_a_title() -> None:
    conda = Recipe(image="x", source="x", dockerfile=_CONDA)
    for recipe in (*map(shipped_recipe, shipped_images()), conda):
        titles = build_request(recipe).titles
        commands = re.findall(r"^RUN (?:.*\\\n)*.*", recipe.dockerfile, re.MULTILINE)
        assert len(commands) == recipe.dockerfile.count("\nRUN ")
        for command in commands:
            text = " ".join(command.replace("\\\n", " ").split())
            assert any(re.match(pattern, text) for pattern in titles), text
    python = shipped_recipe("python")
    assert "pip install -r requirements.txt" in build_request(python).titles.values()
    given = build_request(python, arguments={"PACKAGES": "--index-url https://me:secret@host x"})
    assert "secret" not in str(given.titles)


def test_a_dockerfile_comes_first_and_is_taken_as_it_is(tmp_path: Path) -> None:
    recipe = folder_of(tmp_path, Dockerfile="FROM scratch\n", requirements__txt="numpy\n")
    request = build_request(recipe)
    assert recipe.image == "my-project-kernel"
    assert (recipe.base, request.dockerfile) == ("", "Dockerfile")
    assert sent(request).keys() == {"Dockerfile", "data.bin", "requirements.txt"}


def test_requirements_are_sent_without_the_data_beside_them(tmp_path: Path) -> None:
    recipe = folder_of(tmp_path, requirements__txt="numpy>=2\n")
    request = build_request(recipe)
    files = sent(request)
    assert files["requirements.txt"] == "numpy>=2\n"
    assert "data.bin" not in files
    assert request.arguments == {"PACKAGES": "ipykernel -r requirements.txt"}
    assert files[request.dockerfile] == shipped_recipe("python").dockerfile


@pytest.mark.parametrize("line", ["-r more.txt", "./wheels/x.whl", "x @ file:wheels/x.whl", "-c c"])
def test_requirements_that_mean_files_are_sent_with_them(tmp_path: Path, line: str) -> None:
    files = sent(build_request(folder_of(tmp_path, requirements__txt=f"numpy\n{line}\n")))
    assert "data.bin" in files


def test_an_ignore_file_excludes_from_what_is_sent_but_not_what_is_added(tmp_path: Path) -> None:
    recipe = folder_of(tmp_path, pyproject__toml="[project]\nname='x'\n", __dockerignore="*.bin\n*")
    host = HostNetwork(authorities=PEM)
    files = sent(build_request(recipe, host=host))
    assert files["host-ca.crt"] == PEM
    assert "data.bin" not in files
    # The engine would read it, and take the added files away again.
    assert files[".dockerignore"] == ""


def test_a_project_is_installed_with_the_kernel(tmp_path: Path) -> None:
    recipe = folder_of(tmp_path, pyproject__toml="[build-system]\n", __git="x")
    request = build_request(recipe)
    assert request.arguments == {"PACKAGES": "ipykernel ."}
    assert sent(request).keys() == {
        *("pyproject.toml", "data.bin", ".dockerignore", request.dockerfile)
    }


def test_an_environment_without_conda_packages_is_built_by_pip(tmp_path: Path) -> None:
    text = "dependencies:\n- python=3.12\n- pip\n- pip:\n  - numpy>=2\n"
    recipe = folder_of(tmp_path, environment__yml=text)
    assert "environment.yml, by pip" in recipe.source
    assert recipe.base == "python:3.12-slim"
    assert not recipe.debian_will_do  # whose Python is another one
    assert sent(build_request(recipe))["requirements.txt"] == "numpy>=2\n"


def test_an_environment_with_conda_packages_wants_a_conda_base(tmp_path: Path) -> None:
    text = "dependencies:\n- python\n- conda-forge::gdal >=3\n- pip:\n  - numpy\n"
    recipe = folder_of(tmp_path, environment__yml=text)
    assert recipe.base == "condaforge/miniforge3:latest"
    assert not recipe.debian_will_do
    assert "conda, for gdal of environment.yml" in recipe.base_needs
    assert sent(build_request(recipe))["environment.yml"] == text


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "nothing to build an image from"),
        ({"requirements__txt": "-e .\n"}, "editable"),
        ({"pyproject__toml": "[tool.ruff]\n"}, "describes no package"),
        ({"environment__yml": "name: x\n"}, "no conda environment"),
        ({"environment__yml": "{"}, "no conda environment"),
    ],
)
def test_what_cannot_be_built_says_why(tmp_path: Path, files: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        folder_of(tmp_path, **files)


# -- this host's network -----------------------------------------------------------------------


def test_proxies_and_authorities_are_those_that_variables_name(tmp_path: Path) -> None:
    bundle, usual = tmp_path / "bundle", tmp_path / "usual"
    bundle.write_text(PEM)
    usual.write_text(PEM * 2)
    proxy = {"https_proxy": "http://me:secret@proxy:3128", "NO_PROXY": "localhost"}

    def of(**variables: str) -> HostNetwork:
        return HostNetwork.of(variables, usual)

    assert of() == HostNetwork()
    assert of(NO_PROXY="localhost").authorities == ""
    assert of(**proxy) == HostNetwork(proxies=proxy, authorities=PEM * 2)
    assert of(SSL_CERT_FILE=str(bundle), **proxy).authorities == PEM
    assert "secret" not in repr(of(**proxy))
    with pytest.raises(ConfigurationError, match=r"PIP_CERT names them"):
        of(PIP_CERT=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("url", "network"),
    [
        ("http://127.0.0.1:3128", "host"),
        ("localhost:3128", "host"),
        ("http://[::1]:3128", "host"),
        ("http://proxy.example:3128", ""),
    ],
)
def test_a_proxy_on_this_host_is_reached_from_its_network(url: str, network: str) -> None:
    host = HostNetwork(proxies={"HTTPS_PROXY": url})
    request = build_request(shipped_recipe("python"), host=host)
    assert request.network == network
    assert request.arguments["HTTPS_PROXY"] == url
    assert build_request(shipped_recipe("python"), host=host, network="none").network == "none"


def test_a_users_dockerfile_gets_the_authorities_when_it_names_them(tmp_path: Path) -> None:
    """Any other might copy its whole folder, and keep them."""
    host = HostNetwork(authorities=PEM)
    recipe = folder_of(tmp_path, Dockerfile="FROM x\nCOPY . /\n")
    assert "host-ca.crt" not in sent(build_request(recipe, host=host))
    assert "host-ca.crt" in host.advice(["SSL: CERTIFICATE_VERIFY_FAILED"], recipe.dockerfile)
    asks = Recipe(image="x", source="Dockerfile", dockerfile="COPY host-ca.crt /", is_users=True)
    assert sent(build_request(asks, host=host)) == {"host-ca.crt": PEM}
