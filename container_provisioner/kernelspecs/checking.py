"""Whether a kernel of a draft answers."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ContainerSettings
from .drafts import Draft
from .trial import trial, trial_manager
from .writing import Staging


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the kernel said of itself."""

    language: str
    version: str
    seconds: float  # from the request for a kernel to its answer


async def check(draft: Draft, staging: Staging) -> Answer:
    """Start a kernel of the draft and wait for its ``kernel_info_reply``. Raises as `trial`."""
    draft = draft.having(on_server_exit="stop")  # not to outlive this process, if it is killed
    kernel = trial_manager(draft.name, staging.stage(draft))
    async with trial(kernel, ContainerSettings(**draft.config).start_timeout) as tried:
        language = tried.info.get("language_info") or {}
        return Answer(
            language=str(language.get("name", "")),
            version=str(language.get("version", "")),
            seconds=tried.seconds,
        )
