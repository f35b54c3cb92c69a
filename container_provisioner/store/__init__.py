"""What is kept on disk: private directories, records, and who owns what."""

from __future__ import annotations

from .directory import KernelDirectory
from .lease import Lease, hold, lease_facts, lease_is_held, leases, own_lease
from .offers import Offer, Offers
from .places import (
    Place,
    half_written,
    place_id,
    place_secret,
    private_root,
    runtime_folder,
    short_name,
    state_folder,
)
from .records import RecordStore

__all__ = [
    "KernelDirectory",
    "Lease",
    "Offer",
    "Offers",
    "Place",
    "RecordStore",
    "half_written",
    "hold",
    "lease_facts",
    "lease_is_held",
    "leases",
    "own_lease",
    "place_id",
    "place_secret",
    "private_root",
    "runtime_folder",
    "short_name",
    "state_folder",
]
