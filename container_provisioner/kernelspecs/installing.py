"""Drafts of kernelspecs, tried out and put into place: all of them, or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ContainerProvisionerError, KernelDied, StartTimeout
from .checking import Answer, check
from .drafts import Draft
from .writing import Staging, another

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A kernelspec that is in place. `answer` is None when no kernel was started."""

    draft: Draft
    folder: Path
    is_new: bool  # or has been replaced; else it was there already, the same
    answer: Answer | None


async def install(
    drafts: Sequence[Draft],
    kernels: Path,
    *,
    replace: bool = False,
    checks: bool = True,
) -> list[Installed]:
    """Put the drafts into `kernels`, once a kernel of each has answered (with `checks`).

    A kernel that does not come up over ipc, where no transport is named, is tried over tcp; that
    is then in its stanza. Raises `ConfigurationError` when another kernelspec has a name and
    `replace` is not set, and what `check` raises; nothing has been changed then.
    """
    present = [_present(each, kernels, replace=replace) for each in drafts]
    with Staging(kernels) as staging:
        tried = []
        for each, same in zip(drafts, present, strict=True):
            wanted = same or each
            tried.append(await _tried(wanted, staging) if checks else (wanted, None))
        return [
            Installed(
                draft=each,
                folder=kernels / each.name
                if each == same
                else staging.place(each, replace=replace),
                is_new=each != same,
                answer=answer,
            )
            for (each, answer), same in zip(tried, present, strict=True)
        ]


def _present(draft: Draft, kernels: Path, *, replace: bool) -> Draft | None:
    """The draft as it is installed already, maybe over tcp; None when it is not."""
    folder = kernels / draft.name
    over_tcp = [draft.having(transport="tcp")] if "transport" not in draft.config else []
    same = next((each for each in (draft, *over_tcp) if each.is_in(folder)), None)
    if same is None and os.path.lexists(folder) and not replace:
        raise another(draft.name, folder)
    return same


async def _tried(draft: Draft, staging: Staging) -> tuple[Draft, Answer]:
    try:
        _log.info("Starting a kernel of %s…", draft.name)
        return draft, await check(draft, staging)
    except (KernelDied, StartTimeout) as exc:
        if "transport" not in draft.config:
            over_tcp = draft.having(transport="tcp")
            try:
                _log.info("It did not come up over ipc. Trying tcp…")
                return over_tcp, await check(over_tcp, staging)
            except ContainerProvisionerError:
                pass  # so it was not that
        raise type(exc)(
            f"No kernel of {draft.name!r} answered, and nothing was changed. {exc}"
        ) from exc
