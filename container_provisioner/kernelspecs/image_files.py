"""An image's files, and where in it Jupyter and Python would look. Nothing in it is run."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from ..engine.calls import Engine
from ..errors import ArchiveTooLarge, ContainerGone
from .archives import ARCHIVE_BYTES, read_archive
from .kernelspec import Resource

# The engine's, where the image names none.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# To tell a link from a file it is enough to begin to read it.
_GLANCE_BYTES = 4096
_LINKS = 8  # that are followed, one after the other, to the real interpreter
_VERSION = re.compile(r"python3\.\d+t?")


class ImageFiles:
    """Looks into a container that was made of the image and never runs; one call for each look."""

    def __init__(self, engine: Engine, container: str, environment: Mapping[str, str]) -> None:
        self._engine, self._container = engine, container
        self.environment = environment
        self._seen: dict[str, str | None] = {}

    @property
    def path(self) -> list[str]:
        """The folders in which a program is looked for."""
        text = self.environment.get("PATH") or DEFAULT_PATH
        return unique(folder for folder in text.split(":") if folder.startswith("/"))

    @property
    def prefixes(self) -> list[str]:
        """What may be a Python's ``sys.prefix``, the likeliest first."""
        named = (self.environment.get(n) for n in ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DIR"))
        on_path = (posixpath.dirname(f) for f in self.path if posixpath.basename(f) == "bin")
        usual = ("/opt/conda", "/usr/local", "/usr")
        return unique(prefix for prefix in (*named, *on_path, *usual) if prefix and prefix != "/")

    def data_folders(self, home: str) -> list[str]:
        """Jupyter's data directories, in the order in which they count.

        See "Data files" in jupyter_core's documentation.
        """
        jupyter_path = self.environment.get("JUPYTER_PATH", "").split(":")
        of_user = self.environment.get("JUPYTER_DATA_DIR")
        if not of_user and home:
            of_user = posixpath.join(home, ".local/share/jupyter")
        installed = (posixpath.join(prefix, "share/jupyter") for prefix in self.prefixes)
        every = (*jupyter_path, of_user or "", *installed)
        return unique(posixpath.normpath(folder) for folder in every if folder.startswith("/"))

    async def tree(self, folder: str) -> tuple[dict[str, Resource], dict[str, str]]:
        """Files and links below a folder, by path, both empty when there is none.

        A link to a folder counts as one: the engine follows it within the image.
        """
        try:
            archive = await self._engine.download(self._container, f"{folder}/.", ARCHIVE_BYTES)
        except ContainerGone:
            return {}, {}
        return read_archive(archive)

    async def file(self, path: str) -> bytes:
        """What is in a small file; empty when it is none."""
        try:
            archive = await self._engine.download(self._container, path, ARCHIVE_BYTES)
        except (ContainerGone, ArchiveTooLarge):
            return b""
        files, _ = read_archive(archive)
        return next((file.content for file in files.values()), b"")

    async def target(self, path: str) -> str | None:
        """The path that a link leads to, `path` itself for a file; None when there is neither."""
        if path not in self._seen:
            self._seen[path] = await self._target(path)
        return self._seen[path]

    async def _target(self, path: str) -> str | None:
        try:
            archive = await self._engine.download(self._container, path, _GLANCE_BYTES)
        except ContainerGone:
            return None
        except ArchiveTooLarge:
            return path
        files, links = read_archive(archive)
        folder = posixpath.dirname(path)
        for link in links.values():
            return posixpath.normpath(posixpath.join(folder, link))
        return path if files else None

    async def find_python(self, names: Iterable[str], folders: Iterable[str]) -> str | None:
        """The first interpreter of these names in these folders."""
        names = unique(names)
        for folder in unique(folders):
            for name in names:
                if await self.target(path := posixpath.join(folder, name)) is not None:
                    return path
        return None

    async def python_folders(self, interpreter: str) -> list[str]:
        """Where an interpreter may have its packages; empty when its version does not show.

        The version is in the name of what it is a link to, as in every distribution, conda and
        virtual environment.
        """
        path: str | None = interpreter
        prefixes: list[str] = []
        for _ in range(_LINKS):
            if path is None:
                break
            prefixes.append(posixpath.dirname(posixpath.dirname(path)))
            if version := _VERSION.fullmatch(posixpath.basename(path)):
                return unique(_packages(prefixes, version[0]))
            if (target := await self.target(path)) == path:
                break
            path = target
        return []


def _packages(prefixes: Iterable[str], version: str) -> Iterator[str]:
    for prefix in prefixes:
        yield f"{prefix}/lib/{version}/site-packages"
        yield f"{prefix}/lib/{version}/dist-packages"  # Debian's, and below /usr/local
    yield f"/usr/local/lib/{version}/dist-packages"
    yield "/usr/lib/python3/dist-packages"


def unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
