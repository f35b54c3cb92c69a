"""The verbs that concern volumes, for `DockerEngine`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ContainerGone, EngineError
from ..labels import label_filter
from .docker_errors import engine_errors


class DockerVolumes:
    """``/volumes`` of the Docker Engine API. `_client` is the SDK's."""

    _client: Any

    def unused_volumes(self, labels: Mapping[str, str | None]) -> list[str]:
        client = self._client
        with engine_errors(doing="Listing volumes"):
            found = client.volumes(filters={"label": label_filter(labels), "dangling": True})
        return [
            item["Name"]
            for item in found.get("Volumes") or ()
            # Podman takes one filter for enough; and volumes without a name get no labels from it.
            if all(
                name in (item.get("Labels") or {}) and value in (None, item["Labels"][name])
                for name, value in labels.items()
            )
        ]

    def remove_volume(self, name: str) -> bool:
        client = self._client
        try:
            with engine_errors(doing=f"Removing volume {name}"):
                client.remove_volume(name)
        except ContainerGone:
            pass
        except EngineError as exc:
            if "in use" not in str(exc):
                raise
            return False
        return True
