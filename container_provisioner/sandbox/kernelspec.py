"""Which kernel a sandbox has: found as ``install`` finds it, and installed nowhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpec, KernelSpecManager
from traitlets import Instance

from ..engine.find import open_engine
from ..errors import ConfigurationError, NoKernelInImage
from ..image import ensure_image
from ..kernelspecs import Kernelspec, draft, host_kernelspec, image_kernelspecs
from ..policy import Settings

# An image's id is a digest of what is in it.
_found: dict[str, list[Kernelspec]] = {}

# As ipykernel installs itself, of the interpreter that runs this.
_IPYKERNEL = Kernelspec(
    name=NATIVE_KERNEL_NAME,
    fields={
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
    },
)


class OneKernelspec(KernelSpecManager):
    """Knows one kernelspec, by whatever name it is asked for. No file is read or written."""

    spec = Instance(KernelSpec)

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self.spec


async def find_kernelspec(
    kernel: str, config: Mapping[str, Any], settings: Settings, log: logging.Logger
) -> KernelSpec:
    """The kernelspec `kernel` of the image, or of this host, with `config` as its stanza.

    Without a name it is ``python3`` or the image's first; on this host ipykernel of this
    interpreter. Raises `EngineError`, `NoKernelInImage`, `ConfigurationError`, `NoSuchKernel`.
    """
    if settings.image:
        spec = await _in_image(kernel, settings, log)
    elif kernel:
        spec = host_kernelspec(KernelSpecManager(), kernel)
    else:
        spec = _IPYKERNEL
    # A folder in an image is none of this host's.
    folder = "" if settings.image else spec.folder
    return KernelSpec(resource_dir=folder, **draft(spec, config=config).fields)


async def _in_image(kernel: str, settings: Settings, log: logging.Logger) -> Kernelspec:
    engine = await open_engine(settings.engine, settings.engine_url)
    image = settings.image
    info = await ensure_image(
        engine, image, policy=settings.pull_policy, deadline=settings.pull_timeout, log=log
    )
    if info.id not in _found:
        _found[info.id] = await image_kernelspecs(engine, info, log)
    by_name = {spec.name: spec for spec in _found[info.id]}
    if not by_name:
        raise NoKernelInImage(image)
    name = kernel or (NATIVE_KERNEL_NAME if NATIVE_KERNEL_NAME in by_name else next(iter(by_name)))
    if name not in by_name:
        raise ConfigurationError(
            f"Image {image!r} has no kernel {name!r}. It has: {', '.join(by_name)}."
        )
    return by_name[name]
