"""An image, held against what images/README.md asks of one and a kernel's run does not show."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..engine.base import ImageInfo
from ..engine.find import open_engine
from ..errors import EngineError, ImageMissing
from ..kernelspecs import image_kernelspecs
from ..policy import Settings
from .finding import Finding

# What is wrong with one of its kernelspecs is for `install` to say.
_SILENT = logging.Logger("silent", level=logging.CRITICAL)


async def examine_image(settings: Settings) -> list[Finding]:
    """Its user, and the kernelspecs in it. Nothing about an image that the engine does not have:
    that no kernel of it starts says so."""
    try:
        engine = await open_engine(settings.engine, settings.engine_url)
        info = await engine.inspect_image(settings.image)
        names = [spec.name for spec in await image_kernelspecs(engine, info, _SILENT)]
    except ImageMissing:
        return []
    except EngineError as exc:
        return [Finding(subject="image", outcome="problem", says=str(exc))]
    if notes := [*_user(info), *_kernelspecs(names)]:
        return notes
    says = f"its user is {info.user}; 'install' finds {', '.join(names)} in it"
    return [Finding(subject="image", outcome="ok", says=says)]


def _user(info: ImageInfo) -> Iterator[Finding]:
    user, _, group = info.user.partition(":")
    if not user:
        says = "it names no user, which is root"
    elif not (user.isdecimal() and (group or "0").isdecimal()):
        says = f"its user is a name, {info.user}, which means what its /etc/passwd says"
    elif int(user) == 0:
        says = "its user is root"
    else:
        return
    cure = "Nothing to do while its kernels work. In its Dockerfile: USER 1000:1000"
    yield Finding(subject="image", outcome="note", says=says, cure=cure)


def _kernelspecs(names: list[str]) -> Iterator[Finding]:
    if not names:
        says = "neither Jupyter in it nor 'install' finds a kernel"
        cure = "In its Dockerfile, such as: RUN python -m ipykernel install --prefix /usr/local"
        yield Finding(subject="image", outcome="note", says=says, cure=cure)
