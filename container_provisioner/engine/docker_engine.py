"""`ContainerEngine` for Docker, and for engines that speak its API, through the docker SDK."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

import docker
import docker.errors
from docker.utils import parse_repository_tag

from ..errors import (
    ArchiveTooLarge,
    ConfigurationError,
    ContainerGone,
    EngineError,
    ImageMissing,
    PullFailed,
)
from ..labels import KERNEL_ID, label_filter
from ..spec import ContainerSpec
from ..topology import topology_of
from .address import client_options
from .answers import container_info, container_usage, listed_exit_code, pull_step
from .base import (
    BuildRequest,
    ContainerInfo,
    EngineInfo,
    Event,
    EventStream,
    Execution,
    ImageInfo,
    OutputStream,
    Progress,
    Usage,
)
from .create_body import create_body
from .docker_build import DockerBuild
from .docker_errors import engine_errors
from .docker_execution import DockerExecution
from .docker_networks import DockerNetworks
from .docker_output import open_output
from .docker_volumes import DockerVolumes
from .ssh_tunnel import SshTunnel

# Connections kept open. More than the threads of `calls.Engine`, so that none is thrown away.
MAX_CONNECTIONS = 48

# Of an image that a container or another image needs.
_IN_USE = ("is being used", "is using", "has dependent child images", "image used by")

# Seconds in which an engine has to say who it is. One that does not will not answer anything else
# either, and somebody waits: far less than a call may take that does something.
CONTACT_SECONDS = 20.0

# A signal to a container that does not run. Docker says 409, older Podman 500.
_NOT_RUNNING = ("is not running", "is not paused", "can only kill running", "can only pause")


class _Client(docker.APIClient):
    """Takes nothing from the environment that is meant for other servers: a variable such as
    ``REQUESTS_CA_BUNDLE`` would take the place of the engine's own authority."""

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        self.trust_env = False
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class DockerEngine(DockerNetworks, DockerVolumes):
    """One engine at one URL. Thread-safe: the SDK's session keeps a connection per call.

    `timeout` is the deadline of every call but pulls and events, in seconds. `url` is what
    ``DOCKER_HOST`` takes, with the folder of certificates (see `address`). Nothing is connected
    before the first call.
    """

    # A stream can go quiet without an end: a proxy, a suspended machine. One list call for the
    # whole engine, however many kernels there are, is what it costs to be sure.
    relist_seconds = 60.0

    def __init__(self, url: str, *, timeout: float = 60) -> None:
        self.url = url
        self.is_local = not topology_of(url).is_remote
        self._timeout = timeout
        self._tunnel = SshTunnel(url) if url.startswith("ssh://") else None
        self._api: Any = None  # APIClient, whose stubs know half of what we use
        self._place = url  # where the SDK's client connects to
        self._connecting = threading.Lock()

    @property
    def _client(self) -> Any:
        with self._connecting:
            place = self._tunnel.open() if self._tunnel is not None else self.url
            if self._api is None or place != self._place:
                self._api, self._place = self._connect(), place
            return self._api

    def _connect(self) -> Any:
        pinned = os.environ.get("DOCKER_API_VERSION")
        with engine_errors(doing=f"Connecting to {self.url}"):
            client: Any = _Client(
                **client_options(self._tunnel.open() if self._tunnel is not None else self.url),
                version=pinned or "auto",  # which asks for it
                timeout=cast(int, min(self._timeout, CONTACT_SECONDS)),
                max_pool_size=MAX_CONNECTIONS,
            )
            if pinned:
                client.ping()
            client.timeout = self._timeout
        return client

    def info(self) -> EngineInfo:
        client = self._client
        with engine_errors(doing=f"Asking {self.url} for its version"):
            version = client.version()
            host = client.info()
        security = [
            option.partition(",")[0].removeprefix("name=")
            for option in host.get("SecurityOptions") or []
        ]
        if host.get("Rootless") and "rootless" not in security:
            security.append("rootless")  # Podman has a word of its own for it
        components = " ".join(part.get("Name", "") for part in version.get("Components") or [])
        return EngineInfo(
            name="podman" if "podman" in components.lower() else "docker",
            version=version.get("Version", ""),
            api_version=version.get("ApiVersion", ""),
            security=tuple(security),
            is_manager=bool((host.get("Swarm") or {}).get("ControlAvailable")),
            warnings=tuple(host.get("Warnings") or ()),
        )

    def create(self, spec: ContainerSpec) -> str:
        client = self._client
        with engine_errors(
            doing=f"Creating container {spec.name} from image {spec.image}",
            image=spec.image,
            runtime=spec.runtime,
        ):
            created = client.create_container_from_config(self._body(spec), spec.name)
        return cast(str, created["Id"])

    def _body(self, spec: ContainerSpec) -> dict[str, Any]:
        return create_body(spec)

    def start(self, container: str) -> None:
        client = self._client
        with engine_errors(doing=f"Starting container {container[:12]}"):
            client.start(container)

    def inspect(self, container: str) -> ContainerInfo:
        client = self._client
        with engine_errors(doing=f"Inspecting container {container[:12]}"):
            return container_info(client.inspect_container(container))

    def list_containers(self, labels: Mapping[str, str | None]) -> list[ContainerInfo]:
        client = self._client
        with engine_errors(doing="Listing containers"):
            found = client.containers(all=True, filters={"label": label_filter(labels)})
        return [self._listed(item) for item in found]

    def _listed(self, item: Mapping[str, Any]) -> ContainerInfo:
        return ContainerInfo(
            id=item["Id"],
            name=(item.get("Names") or [""])[0].lstrip("/"),
            state=item["State"],
            labels=item.get("Labels") or {},
            image=item.get("Image") or "",
            created=int(item.get("Created") or 0),
            network=(item.get("HostConfig") or {}).get("NetworkMode") or "",
            exit_code=listed_exit_code(item.get("Status") or ""),
        )

    def rename(self, container: str, name: str) -> None:
        client = self._client
        with engine_errors(doing=f"Renaming container {container[:12]} to {name}"):
            client.rename(container, name)

    def usage(self, container: str) -> Usage:
        client = self._client
        with engine_errors(doing=f"Measuring container {container[:12]}"):
            # one_shot: without it the engine measures twice, a second apart, for the processors.
            return container_usage(client.stats(container, stream=False, one_shot=True))

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

    def output(self, container: str, lines: int | None, follow: bool) -> OutputStream:
        client = self._client
        with engine_errors(doing=f"Reading the log of container {container[:12]}"):
            return open_output(client, container, lines, follow, self._timeout)

    def upload(self, container: str, path: str, archive: bytes) -> None:
        client = self._client
        with engine_errors(doing=f"Writing into {path} of container {container[:12]}"):
            client.put_archive(container, path, archive)

    def download(self, container: str, path: str, limit: int | None = None) -> bytes:
        client, archive = self._client, bytearray()
        with engine_errors(doing=f"Reading {path} of container {container[:12]}"):
            chunks, _ = client.get_archive(container, path)
            # Closed, and with it the connection: the engine locks the container for as long as it
            # has more to send, and would not even remove it.
            with closing(chunks):
                for chunk in chunks:
                    archive += chunk
                    if limit is not None and len(archive) > limit:
                        raise ArchiveTooLarge(path, limit)
        return bytes(archive)

    def execute(self, container: str, argv: Sequence[str]) -> Execution:
        return DockerExecution(self._client, container, argv)

    def events(self, since: int) -> EventStream:
        client = self._client
        with engine_errors(doing="Following the engine's events"):
            stream = client.events(
                since=since,
                decode=True,
                filters={
                    "type": "container",
                    "event": ["die", "oom", "destroy"],
                    "label": KERNEL_ID,
                },
            )
        return DockerEvents(stream)

    def inspect_image(self, image: str) -> ImageInfo:
        client = self._client
        with engine_errors(doing=f"Inspecting image {image}", image=image):
            found = client.inspect_image(image)
        config = found.get("Config") or {}
        pairs = (entry.partition("=") for entry in config.get("Env") or [])
        return ImageInfo(
            id=found["Id"],
            names=tuple(found.get("RepoTags") or ()),
            digests=tuple(found.get("RepoDigests") or ()),
            labels=config.get("Labels") or {},
            size=int(found.get("Size") or 0),
            user=config.get("User") or "",
            environment={name: value for name, _, value in pairs},
        )

    def list_images(self, labels: Mapping[str, str | None]) -> list[ImageInfo]:
        client = self._client
        with engine_errors(doing="Listing images"):
            found = client.images(filters={"label": label_filter(labels)})
        return [
            ImageInfo(
                id=item["Id"],
                # An image that has lost its name to another one says "<none>:<none>".
                names=tuple(n for n in item.get("RepoTags") or () if not n.startswith("<none>")),
                size=int(item.get("Size") or 0),
            )
            for item in found
        ]

    def pull(self, image: str, progress: Progress) -> None:
        repository, tag = parse_repository_tag(image)
        client, doing = self._client, f"Pulling {image}"
        try:
            with engine_errors(doing=doing, image=image):
                for step in client.pull(repository, tag=tag or "latest", stream=True, decode=True):
                    if "error" in step:
                        raise PullFailed(image, str(step["error"]).strip())
                    progress(pull_step(step))
        except (ContainerGone, ImageMissing) as exc:
            raise PullFailed(image, "the registry has no such image") from exc
        except (EngineError, ConfigurationError) as exc:
            if isinstance(exc, PullFailed):
                raise
            raise PullFailed(image, str(exc).removeprefix(f"{doing}: ")) from exc

    def build(self, request: BuildRequest) -> DockerBuild:
        return DockerBuild(self._connect, request)

    def import_image(self, image: str, archive: bytes, labels: Mapping[str, str]) -> None:
        client = self._client
        with engine_errors(doing=f"Importing image {image}", image=image):
            client.import_image(
                src=io.BytesIO(archive),
                repository=image,  # with its tag: Podman makes nothing of one that stands apart
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
            if not any(words in str(exc) for words in _IN_USE):
                raise

    def close(self) -> None:
        client, self._api = self._api, None
        if client is not None:
            client.close()
        if self._tunnel is not None:
            self._tunnel.close()


class DockerEvents:
    """The SDK's stream, as `Event`s. What it raises when it breaks arrives as an `EngineError`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Event]:
        with engine_errors(doing="Following the engine's events"):
            for body in self._stream:
                if (event := self._event(body)) is not None:
                    yield event

    def _event(self, body: Mapping[str, Any]) -> Event | None:
        """None for what nobody asked about."""
        return Event(action=body["Action"], container_id=body["Actor"]["ID"])

    def close(self) -> None:
        with engine_errors(doing="Closing the event stream"):
            self._stream.close()
