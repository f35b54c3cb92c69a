"""The context of a build: what of a folder the engine is sent, as a tar archive."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from docker.utils.build import create_archive, exclude_paths, match_tag

from ..errors import ConfigurationError

IGNORE_FILE = ".dockerignore"


def check_image_name(image: str) -> None:
    """Raises `ConfigurationError` when an image cannot have that name."""
    if not match_tag(image):
        raise ConfigurationError(
            f"{image!r} cannot be the name of an image: small letters and digits with single '-', "
            "'.', '_' or '/' between them, and if need be ':' and a tag."
        )


def build_context(
    folder: Path | None,
    *,
    dockerfile: str = "Dockerfile",
    files: Mapping[str, str] | None = None,
    ignored: Iterable[str] = (),
) -> BinaryIO:
    """The files below `folder` but those that its .dockerignore, or `ignored` in its place where
    it has none, excludes (patterns as there); and `files`, by their names, in any case.

    The archive is a temporary file, at its beginning; to be closed. Raises `ConfigurationError`
    when a file cannot be read.
    """
    files = dict(files or {})
    patterns = list(ignored)
    archive = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller's to close
    try:
        if folder is None:
            create_archive("", files=[], fileobj=archive, extra_files=list(files.items()))
            return archive
        if (own := folder / IGNORE_FILE).is_file():
            lines = (line.strip() for line in own.read_text().splitlines())
            patterns = [line for line in lines if line and not line.startswith("#")]
        if files:
            # The engine reads it too, and would take away what was added here.
            files[IGNORE_FILE] = ""
        root = str(folder.absolute())
        create_archive(
            root,
            files=sorted(exclude_paths(root, patterns, dockerfile=dockerfile)),
            fileobj=archive,
            extra_files=list(files.items()),
        )
    except (OSError, UnicodeDecodeError) as exc:
        archive.close()
        raise ConfigurationError(
            f"The build cannot send {folder} to the engine: {exc}. "
            f"What is not needed can be named in its {IGNORE_FILE}."
        ) from exc
    return archive
