"""`ContainerEngine` for Docker, and for engines that speak its API, through the docker SDK."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import docker
import docker.errors
from docker.utils import parse_repository_tag

from .. import labels
from ..errors import ConfigurationError, ContainerGone, EngineError, ImageMissing, PullFailed
from ..spec import ContainerSpec
from .base import ContainerInfo, EngineInfo, Event, EventStream, ImageInfo, Progress, State
from .create_body import create_body
from .docker_errors import engine_errors

# Connections kept open. More than the threads of `calls.Engine`, so that none is thrown away.
MAX_CONNECTIONS = 16

# A signal to a container that does not run. Docker says 409, older Podman 500.
_NOT_RUNNING = ("is not running", "is not paused", "can only kill running", "can only pause")


class DockerEngine:
    """One engine at one URL. Thread-safe: the SDK's session keeps a connection per call.

    `timeout` is the deadline of every call but pulls and events, in seconds. `url` is what
    ``DOCKER_HOST`` takes. Nothing is connected before the first call.
    """

    def __init__(self, url: str, *, timeout: float = 60) -> None:
        self.url = url
        self.is_local = url.startswith("unix://")
        self._timeout = timeout
        self._api: Any = None  # APIClient, whose stubs know half of what we use
        self._connecting = threading.Lock()

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._api is None:
                with engine_errors(doing=f"Connecting to {self.url}"):
                    self._api = docker.APIClient(
                        base_url=self.url,
                        version=os.environ.get("DOCKER_API_VERSION") or "auto",
                        timeout=cast(int, self._timeout),
                        max_pool_size=MAX_CONNECTIONS,
                    )
            return self._api

    def info(self) -> EngineInfo:
        client = self._client
        with engine_errors(doing=f"Asking {self.url} for its version"):
            version = client.version()
            runtimes = client.info().get("Runtimes") or {}
        components = " ".join(part.get("Name", "") for part in version.get("Components") or [])
        return EngineInfo(
            name="podman" if "podman" in components.lower() else "docker",
            version=version.get("Version", ""),
            api_version=version.get("ApiVersion", ""),
            runtimes=tuple(sorted(runtimes)),
        )

    def create(self, spec: ContainerSpec) -> str:
        client = self._client
        with engine_errors(
            doing=f"Creating container {spec.name} from image {spec.image}",
            image=spec.image,
            runtime=spec.runtime,
        ):
            created = client.create_container_from_config(create_body(spec), spec.name)
        return cast(str, created["Id"])

    def start(self, container: str) -> None:
        client = self._client
        with engine_errors(doing=f"Starting container {container[:12]}"):
            client.start(container)

    def inspect(self, container: str) -> ContainerInfo:
        client = self._client
        with engine_errors(doing=f"Inspecting container {container[:12]}"):
            return container_info(client.inspect_container(container))

    def list_containers(self, labels: Mapping[str, str | None]) -> list[ContainerInfo]:
        wanted = [name if value is None else f"{name}={value}" for name, value in labels.items()]
        client = self._client
        with engine_errors(doing="Listing containers"):
            found = client.containers(all=True, filters={"label": wanted})
        return [
            ContainerInfo(
                id=item["Id"],
                name=(item.get("Names") or [""])[0].lstrip("/"),
                state=item["State"],
                labels=item.get("Labels") or {},
            )
            for item in found
        ]

    def rename(self, container: str, name: str) -> None:
        client = self._client
        with engine_errors(doing=f"Renaming container {container[:12]} to {name}"):
            client.rename(container, name)

    def memory(self, container: str) -> int:
        client = self._client
        with engine_errors(doing=f"Measuring container {container[:12]}"):
            # one_shot: without it the engine measures twice, a second apart, for the processors.
            found = client.stats(container, stream=False, one_shot=True).get("memory_stats") or {}
        details = found.get("stats") or {}
        # As `docker stats`: cgroups of version 1 call it total_inactive_file.
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        return max(0, int(found.get("usage", 0)) - int(cache))

    def signal(self, container: str, signum: int) -> bool:
        client = self._client
        try:
            with engine_errors(doing=f"Sending signal {signum} to container {container[:12]}"):
                client.kill(container, signal=signum)
        except ContainerGone:
            return False
        except EngineError as exc:
            if not any(words in str(exc) for words in (*_NOT_RUNNING, "is paused")):
                raise
            return False
        return True

    def unpause(self, container: str) -> None:
        client = self._client
        try:
            with engine_errors(doing=f"Unpausing container {container[:12]}"):
                client.unpause(container)
        except ContainerGone:
            pass
        except EngineError as exc:
            if not any(words in str(exc) for words in _NOT_RUNNING):
                raise

    def remove(self, container: str) -> None:
        client = self._client
        try:
            with engine_errors(doing=f"Removing container {container[:12]}"):
                client.remove_container(container, v=True, force=True)
        except ContainerGone:
            pass
        except EngineError as exc:
            if "already in progress" not in str(exc):  # somebody else is at it
                raise

    def logs(self, container: str, lines: int) -> str:
        client = self._client
        try:
            with engine_errors(doing=f"Reading the log of container {container[:12]}"):
                output = client.logs(container, stdout=True, stderr=True, tail=lines)
        except ContainerGone:
            return ""
        return cast(bytes, output).decode(errors="replace")

    def upload(self, container: str, path: str, archive: bytes) -> None:
        client = self._client
        with engine_errors(doing=f"Writing into {path} of container {container[:12]}"):
            client.put_archive(container, path, archive)

    def download(self, container: str, path: str) -> bytes:
        client = self._client
        with engine_errors(doing=f"Reading {path} of container {container[:12]}"):
            chunks, _ = client.get_archive(container, path)
            return b"".join(chunks)

    def events(self, since: int) -> EventStream:
        client = self._client
        with engine_errors(doing="Following the engine's events"):
            stream = client.events(
                since=since,
                decode=True,
                filters={
                    "type": "container",
                    "event": ["die", "oom", "destroy"],
                    "label": labels.KERNEL_ID,
                },
            )
        return _DockerEvents(stream)

    def inspect_image(self, image: str) -> ImageInfo:
        client = self._client
        with engine_errors(doing=f"Inspecting image {image}", image=image):
            found = client.inspect_image(image)
        config = found.get("Config") or {}
        pairs = (entry.partition("=") for entry in config.get("Env") or [])
        return ImageInfo(
            id=found["Id"],
            user=config.get("User") or "",
            environment={name: value for name, _, value in pairs},
        )

    def pull(self, image: str, progress: Progress) -> None:
        repository, tag = parse_repository_tag(image)
        client = self._client
        try:
            with engine_errors(doing=f"Pulling {image}", image=image):
                for step in client.pull(repository, tag=tag or "latest", stream=True, decode=True):
                    if "error" in step:
                        raise PullFailed(image, str(step["error"]).strip())
                    progress(" ".join(filter(None, (step.get("id"), step.get("status")))))
        except (ContainerGone, ImageMissing) as exc:
            raise PullFailed(image, "the registry has no such image") from exc
        except (EngineError, ConfigurationError) as exc:
            if isinstance(exc, PullFailed):
                raise
            raise PullFailed(image, str(exc)) from exc

    def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        repository, tag = parse_repository_tag(image)
        client = self._client
        with engine_errors(doing=f"Importing image {image}", image=image):
            client.import_image(
                src=io.BytesIO(archive),
                repository=repository,
                tag=tag,
                changes=[f"LABEL {name}={json.dumps(value)}" for name, value in labels.items()],
            )

    def remove_image(self, image: str) -> None:
        client = self._client
        try:
            with engine_errors(doing=f"Removing image {image}", image=image):
                client.remove_image(image)
        except ImageMissing:
            pass
        except EngineError as exc:
            if "is being used" not in str(exc) and "is using" not in str(exc):
                raise

    def close(self) -> None:
        client, self._api = self._api, None
        if client is not None:
            client.close()


class _DockerEvents:
    """The SDK's stream, as `Event`s. What it raises when it breaks arrives as an `EngineError`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Event]:
        with engine_errors(doing="Following the engine's events"):
            for event in self._stream:
                # Podman answers "died" and "remove" where Docker says "die" and "destroy".
                action = {"died": "die", "remove": "destroy"}.get(event["Action"], event["Action"])
                yield Event(action=action, container_id=event["Actor"]["ID"])

    def close(self) -> None:
        with engine_errors(doing="Closing the event stream"):
            self._stream.close()


def container_info(body: Mapping[str, Any]) -> ContainerInfo:
    """``GET /containers/{id}/json`` as a value. Missing parts are empty, whatever the network."""
    state = body["State"]
    started = state.get("StartedAt") or ""  # the year 1 when it never was
    settings = body.get("NetworkSettings") or {}
    addresses = {
        name: (network or {}).get("IPAddress") or ""
        for name, network in (settings.get("Networks") or {}).items()
    }
    published = {
        int(port.partition("/")[0]): (bindings[0]["HostIp"], int(bindings[0]["HostPort"]))
        for port, bindings in (settings.get("Ports") or {}).items()
        if bindings
    }
    return ContainerInfo(
        id=body["Id"],
        name=body["Name"].lstrip("/"),
        state=cast(State, state["Status"]),
        labels=(body.get("Config") or {}).get("Labels") or {},
        exit_code=state.get("ExitCode") or 0,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        started_at="" if started.startswith("0001-") else started,
        addresses={name: address for name, address in addresses.items() if address},
        published=published,
    )
