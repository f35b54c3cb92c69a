"""The verbs that concern networks, for `DockerEngine`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import EngineError, NameTaken, NetworkMissing
from .base import NetworkInfo
from .docker_errors import engine_errors

# Docker before 25 lets two networks have one name when they are created at the same time, whatever
# ``CheckDuplicate`` says (all of twelve calls succeeded). Of one bridge there can be only one.
_TAKEN = ("same bridge name", "already exists", "already in use")
_BRIDGE = "com.docker.network.bridge"


class DockerNetworks:
    """``/networks`` of the Docker Engine API. `_client` is the SDK's."""

    _client: Any

    def networks(self, name: str) -> list[NetworkInfo]:
        client = self._client
        with engine_errors(doing=f"Looking for network {name}"):
            found = client.networks(names=[name])  # the filter takes parts of a name too
        return [
            NetworkInfo(
                id=item["Id"],
                name=item["Name"],
                internal=bool(item.get("Internal")),
                config_from=(item.get("ConfigFrom") or {}).get("Network") or "",
                labels=item.get("Labels") or {},
            )
            for item in found
            if item["Name"] == name
        ]

    def create_network(
        self, name: str, *, bridge: str, internal: bool, labels: Mapping[str, str]
    ) -> None:
        client = self._client
        try:
            with engine_errors(doing=f"Creating network {name}"):
                client.create_network(
                    name,
                    driver="bridge",
                    options={
                        f"{_BRIDGE}.name": bridge,
                        f"{_BRIDGE}.enable_icc": "false",
                        f"{_BRIDGE}.enable_ip_masquerade": "false",
                    },
                    internal=internal,
                    check_duplicate=True,
                    labels=dict(labels),
                )
        except EngineError as exc:
            if any(words in str(exc) for words in _TAKEN):
                raise NameTaken(str(exc)) from exc
            raise

    def remove_network(self, name: str) -> bool:
        client = self._client
        try:
            with engine_errors(doing=f"Removing network {name}"):
                # The engine itself minds those that run; one that has ended could never run again.
                if client.containers(all=True, quiet=True, filters={"network": name}):
                    return False
                client.remove_network(name)
        except NetworkMissing:
            pass
        except EngineError as exc:
            if "active endpoints" not in str(exc):
                raise
            return False
        return True
