"""Kernelspecs put where Jupyter finds them: whole, or not at all.

`KernelSpecManager.install_kernel_spec` copies into place, file by file, and removes first what was
there. So it copies into a folder aside, on the same file system, and the result is renamed.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import SYSTEM_JUPYTER_PATH, prefer_environment_over_user

from ..errors import ConfigurationError
from .drafts import Draft

# jupyter_client's own words would be about the folder aside.
_log = logging.getLogger("jupyter")


def kernels_folder(*, user: bool = False, prefix: str = "") -> Path:
    """Where kernelspecs go: the user's folder, or below a prefix.

    Without either it is the environment that this command is in, where that is a virtual one (and
    its Jupyter is the one that has the provisioner), else the system's, as for
    ``jupyter kernelspec install``.
    """
    if user:
        return Path(KernelSpecManager().user_kernel_dir)
    if not prefix and prefer_environment_over_user():
        prefix = sys.prefix
    if prefix:
        return Path(prefix).expanduser().absolute() / "share" / "jupyter" / "kernels"
    return Path(SYSTEM_JUPYTER_PATH[0]) / "kernels"


def another(name: str, folder: Path) -> ConfigurationError:
    """That the name is taken."""
    return ConfigurationError(
        f"Another kernelspec {name!r} is in {folder}. Overwrite it with --replace, or choose "
        "another name with --name. Nothing was changed."
    )


class Staging:
    """A folder beside `kernels` for kernelspecs that are not installed yet. A context manager.

    Raises `ConfigurationError` where this user may not write.
    """

    def __init__(self, kernels: Path) -> None:
        self.kernels = kernels
        self._made: list[Path] = []

    def __enter__(self) -> Staging:
        try:
            self._make(self.kernels)
            # Not in it: Jupyter would show whatever is there.
            self._aside = Path(
                tempfile.mkdtemp(prefix=".container-kernel-", dir=self.kernels.parent)
            )
        except OSError as exc:
            self._unmake()
            raise ConfigurationError(
                f"Kernelspecs cannot be written to {self.kernels} ({exc.strerror}). Choose a "
                "folder that you may write with --prefix FOLDER, or your own with --user."
            ) from exc
        return self

    def __exit__(self, *exc_info: object) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)
        self._unmake()

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True)
            self._made.append(folder)

    def _unmake(self) -> None:
        """Folders that were made and that nothing is in."""
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                return

    def stage(self, draft: Draft) -> KernelSpecManager:
        """Write a draft where the manager that is returned finds it, and nobody else."""
        source = Path(tempfile.mkdtemp(dir=self._aside))
        draft.write(source / draft.name)
        prefix = source / "prefix"
        manager = KernelSpecManager(
            kernel_dirs=[str(prefix / "share" / "jupyter" / "kernels")],
            ensure_native_kernel=False,
            log=_log,
        )
        manager.install_kernel_spec(str(source / draft.name), draft.name, prefix=str(prefix))
        return manager

    def place(self, draft: Draft, *, replace: bool) -> Path:
        """Install it; returns its folder. With `replace`, what is there goes.

        A reader sees the old one, or the new one, or for a moment none. Raises
        `ConfigurationError` when there is another one all the same, and when it cannot be done.
        """
        staged = Path(self.stage(draft).get_kernel_spec(draft.name).resource_dir)
        target, old = self.kernels / draft.name, staged.with_name(f"{draft.name}.old")
        try:
            if replace and os.path.lexists(target):
                target.rename(old)
            staged.rename(target)
        except OSError as exc:
            if os.path.lexists(old) and not os.path.lexists(target):
                old.rename(target)
            if draft.is_in(target):
                return target  # somebody else was installing the same, and was first
            if not replace and os.path.lexists(target):
                raise another(draft.name, target) from exc
            raise ConfigurationError(
                f"Kernelspec {draft.name!r} could not be put into {self.kernels} ({exc.strerror}). "
                "Nothing was changed there."
            ) from exc
        return target
