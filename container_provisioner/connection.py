"""Connection info: what the manager knows, what the kernel's file says, what a record keeps."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import KernelNotAdoptable

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
CURVE_KEYS = ("curve_publickey", "curve_secretkey")
# By these a kernel and its clients know each other.
CREDENTIALS = ("key", "signature_scheme", *CURVE_KEYS)
PORT_NAMES = tuple(f"{channel}_port" for channel in CHANNELS)

# With ipc a port is only the number at the end of the socket's name.
IPC_PORTS = dict(zip(PORT_NAMES, range(1, 6), strict=True))
SOCKET_PATH_LIMIT = 107  # bytes: sun_path in sys/un.h, less the terminating null
# Inside the container. Each has its own network namespace, so they can be the same for all.
# Below those that Linux gives out: Docker's own resolver listens on one of them in there, whenever
# the network is not the default one, and would have one of these now and then.
TCP_PORTS = dict(zip(PORT_NAMES, range(28501, 28506), strict=True))


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where five channels are: ``ipc`` with a path's beginning, or ``tcp`` with an address."""

    transport: str
    ip: str
    ports: Mapping[str, int]

    def as_fields(self) -> dict[str, Any]:
        """The fields of a connection file that say where."""
        return {"transport": self.transport, "ip": self.ip, **self.ports}

    def socket_paths(self) -> list[str]:
        """The socket of each channel. Only for ``ipc``."""
        return [f"{self.ip}-{port}" for port in self.ports.values()]


def connection_file(info: Mapping[str, Any], endpoint: Endpoint, **facts: str) -> str:
    """The kernel's own connection file: the manager's info, at the kernel's end of the transport.

    `facts` are further fields such as ``kernel_name``. See "Connection files" in jupyter_client's
    documentation.
    """
    return json.dumps({**to_json(info), **endpoint.as_fields(), **facts}, indent=2)


def is_encrypted(info: Mapping[str, Any]) -> bool:
    """Whether messages are encrypted, by Curve keys that only the kernel and its clients have."""
    return "curve_secretkey" in info


def to_json(info: Mapping[str, Any]) -> dict[str, Any]:
    """Connection info without bytes: keys become text, as in a connection file."""
    return {
        name: value.decode("ascii") if isinstance(value, bytes) else value
        for name, value in info.items()
    }


def from_json(info: Any) -> dict[str, Any]:
    """The inverse: the manager compares ``key`` as bytes, and the Curve keys as text.

    Raises `KernelNotAdoptable` for what holds no key, or none that could be used.
    """
    key = info.get("key") if isinstance(info, Mapping) else None
    if not isinstance(key, str) or not key.isascii():
        raise KernelNotAdoptable("The record holds no connection info with a key.")
    scheme = info.get("signature_scheme", "hmac-sha256")
    curve = [info[name] for name in CURVE_KEYS if name in info]
    if not re.fullmatch("hmac-[a-z0-9_]+", str(scheme)) or not hasattr(hashlib, scheme[5:]):
        raise KernelNotAdoptable(f"The record's signature_scheme makes no sense: {scheme!r}.")
    if len(curve) == 1 or not all(re.fullmatch("[!-~]{40}", str(item)) for item in curve):
        raise KernelNotAdoptable("The record's Curve keys make no sense.")
    return {**info, "key": key.encode("ascii")}
