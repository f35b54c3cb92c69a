"""How this process and the engine's host see each other: their paths and addresses."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What a launch has to know of where the engine is."""

    shares_files: bool = True  # a path is the same on the engine's host, and a socket can be shared
    address: str = ""  # of the engine's host, as this one sees it; empty: it is this host
    engine_url: str = ""  # for messages


LOCAL = Topology()


def topology_of(engine_url: str, *, engine_host: str = "") -> Topology:
    """Of the engine at that URL: a unix socket is on this host, everything else on another one.

    An engine that is not known yet, an empty URL, is taken to be on this one. `engine_host` is the
    address to find its published ports at, where the URL does not say.
    """
    parts = urlsplit(engine_url)
    if parts.scheme in ("", "unix"):
        return Topology(engine_url=engine_url)
    return Topology(
        shares_files=False, address=engine_host or parts.hostname or "", engine_url=engine_url
    )
