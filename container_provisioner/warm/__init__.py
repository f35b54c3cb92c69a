"""The warm pool: containers whose kernels wait, fully initialised, to become somebody's.

`pool` keeps them, `claim` takes one for a launch, `standby` is what runs inside, and
`specification` says which container can serve for which launch: only one that is exactly what a
cold start would have made. A warm container serves one kernel, ever.
"""

from __future__ import annotations

from .claiming import Claimed, claim, renew_session
from .pool import WarmPool

__all__ = ["Claimed", "WarmPool", "claim", "renew_session"]
