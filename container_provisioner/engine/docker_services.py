"""A swarm as a `ContainerEngine`: what it calls a container is a service of one task.

Everything that starts, adopts, guards, lists and removes kernels does it by the verbs of
`base.ContainerEngine`, and needs not know. Images, and containers that are only looked into, are
those of the manager that is asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, cast

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from .. import labels as names
from ..errors import ContainerGone, EngineError, EngineMismatch, NameTaken
from ..spec import ContainerSpec
from ..topology import SWARM
from .base import ContainerInfo, EngineInfo, EventStream, Execution, OutputStream, Usage
from .docker_engine import DockerEngine
from .docker_errors import engine_errors
from .docker_output import open_log
from .service_answers import Node, Run, constraints_of, node_of, service_info
from .service_body import secret_files, secret_reference, service_body
from .service_events import ServiceEvents

LOG_SECONDS = 10.0  # for a log, which the manager has to ask a node for


class SwarmEngine(DockerEngine):
    """The swarm of the manager at `url`, which begins with ``swarm+``. Thread-safe."""

    def __init__(self, url: str, *, timeout: float = 60) -> None:
        super().__init__(url.removeprefix(SWARM), timeout=timeout)
        self.url = url
        self.is_local = False  # a kernel is on any node

    def info(self) -> EngineInfo:
        """Raises `EngineMismatch` for an engine that manages no swarm, or too old a one."""
        found, url = super().info(), self.url.removeprefix(SWARM)
        if not found.is_manager:
            raise EngineMismatch(
                f"The engine at {url} is no manager of a swarm ('docker node ls' works on one). "
                "Make it one with 'docker swarm init', or name a manager in engine_url."
            )
        if tuple(map(int, found.api_version.split("."))) < (1, 41):
            raise EngineMismatch(
                f"The engine at {url} (API {found.api_version}) cannot limit the processes of a "
                "service. Docker 20.10 (API 1.41) is the first that can."
            )
        return found

    # -- one service ------------------------------------------------------------------------

    def create(self, spec: ContainerSpec) -> str:
        if names.KERNEL_ID not in spec.labels:
            return super().create(spec)  # to look into an image
        client, body = self._client, service_body(spec)
        try:
            with engine_errors(doing=f"Creating service {spec.name}", image=spec.image):
                created = client.create_service(
                    body["TaskTemplate"],
                    name=body["Name"],
                    labels=body["Labels"],
                    mode=body["Mode"],
                    endpoint_spec=body["EndpointSpec"],
                )
        except EngineError as exc:
            if "name conflicts" in str(exc):
                raise NameTaken(str(exc)) from exc
            raise
        return cast(str, created["ID"])

    def upload(self, container: str, path: str, archive: bytes) -> None:
        """As secrets, for the next start. `path` is what the service was made with."""
        client = self._client
        with engine_errors(doing=f"Making the secrets of service {container[:12]}"):
            found = client.inspect_service(container)
            kept = {name: found["Spec"]["Labels"].get(name, "") for name in _OF_THE_OWNER}
            for file in secret_files(archive):
                about = {"path": file.path, "uid": str(file.uid), "gid": str(file.gid)}
                client.create_secret(
                    f"jupyter-{uuid.uuid4().hex}",
                    file.content,
                    labels={**kept, names.SERVICE: found["ID"], **_in_labels(about)},
                )

    def start(self, container: str) -> None:
        """Returns when the swarm knows; it then looks for a node, and that may pull the image.

        A node that has refused it (`ContainerInfo.is_refused`) is none for it any more."""
        client = self._client

        def run(spec: dict[str, Any]) -> bool:
            last = self._run_of(container)
            if _replicas(spec) and not last.has_ended:
                return False
            template = spec["TaskTemplate"]
            if last.is_refused:
                constraints = dict.fromkeys([*constraints_of(template), last.elsewhere])
                template.setdefault("Placement", {})["Constraints"] = list(constraints)
            template["ContainerSpec"]["Secrets"] = [
                secret_reference(secret["ID"], secret["Spec"]["Name"], _of_labels(secret))
                for secret in self._secrets(container)
            ]
            template["ForceUpdate"] = template.get("ForceUpdate", 0) + 1
            spec["Labels"].pop(names.END_SIGNAL, None)
            spec["Mode"]["Replicated"]["Replicas"] = 1
            return True

        with engine_errors(doing=f"Starting service {container[:12]}"):
            self._change(client, container, run)

    def signal(self, container: str, signum: int) -> bool:
        """SIGTERM and SIGKILL: its one task is taken away. It gets SIGTERM some two seconds later,
        and SIGKILL a second after that. A swarm has no way to send any other."""
        if signum not in (9, 15):
            raise EngineError(f"A swarm cannot send signal {signum} to a service's task.")
        client, run = self._client, Run()

        def end(spec: dict[str, Any]) -> bool:
            nonlocal run
            run, wanted = self._run_of(container), bool(_replicas(spec))
            spec["Labels"][names.END_SIGNAL] = str(signum)
            spec["Mode"]["Replicated"]["Replicas"] = 0
            return wanted and not run.has_ended and not run.is_lost

        with suppress(ContainerGone), engine_errors(doing=f"Ending service {container[:12]}"):
            self._change(client, container, end)
            return bool(run.task) and not run.has_ended and not run.is_lost
        return False

    def remove(self, container: str) -> None:
        """And its secrets. Its task's container ends some seconds later."""
        client, is_service = self._client, False
        with suppress(ContainerGone), engine_errors(doing=f"Removing service {container[:12]}"):
            container = client.inspect_service(container)["ID"]
            is_service = True
            client.remove_service(container)
        doing = f"Removing the secrets of service {container[:12]}"
        with engine_errors(doing=doing):
            secrets = self._secrets(container)
        for secret in secrets:
            with suppress(ContainerGone), engine_errors(doing=doing):
                client.remove_secret(secret["ID"])
        if not is_service and not secrets:
            super().remove(container)  # that was looked into

    def inspect(self, container: str) -> ContainerInfo:
        client = self._client
        try:
            with engine_errors(doing=f"Inspecting service {container[:12]}"):
                found = client.inspect_service(container)
                tasks = client.tasks(filters={"service": found["ID"]})
                return service_info(found, Run.last(tasks, self._nodes()))
        except ContainerGone:
            with engine_errors(doing=f"Looking for secrets of service {container[:12]}"):
                if secrets := self._secrets(container):
                    return _leftover(container, secrets)
            raise

    def _run_of(self, container: str) -> Run:
        return Run.last(self._client.tasks(filters={"service": container}), self._nodes())

    def _nodes(self) -> dict[str, Node]:
        return {body["ID"]: node_of(body) for body in self._client.nodes()}

    def _secrets(self, service: str) -> list[dict[str, Any]]:
        wanted = f"{names.SERVICE}={service}"
        return cast(list[dict[str, Any]], self._client.secrets(filters={"label": [wanted]}))

    def _change(
        self, client: Any, container: str, change: Callable[[dict[str, Any]], bool]
    ) -> None:
        """Update the service's definition, unless `change` returns False."""

        # The swarm counts its own changes too, such as the addresses that it gives out.
        @retry(
            retry=retry_if_exception(lambda exc: "out of sequence" in str(exc)),
            stop=stop_after_attempt(10),
            wait=wait_random(0.01, 0.1),
            reraise=True,
        )
        def update() -> None:
            found = client.inspect_service(container)
            spec = found["Spec"]
            if change(spec):
                client.update_service(
                    found["ID"],
                    found["Version"]["Index"],
                    task_template=spec["TaskTemplate"],
                    name=spec["Name"],
                    labels=spec["Labels"],
                    mode=spec["Mode"],
                    endpoint_spec=spec.get("EndpointSpec"),
                )

        update()

    # -- all of them ------------------------------------------------------------------------

    def list_containers(self, labels: Mapping[str, str | None]) -> list[ContainerInfo]:
        """Services, and what is left of those whose secrets somebody did not come to remove."""
        wanted = names.label_filter(labels)
        client = self._client
        with engine_errors(doing="Listing services"):
            # Secrets first: one that is made between the two is no leftover.
            secrets = client.secrets(filters={"label": [*wanted, names.SERVICE]})
            services = client.services(filters={"label": wanted})
            tasks = self._tasks() if services else {}
            nodes = self._nodes() if services else {}
            known = {service["ID"] for service in services}
            left = [secret for secret in secrets if _service_of(secret) not in known]
        return [
            *(service_info(each, Run.last(tasks.get(each["ID"], ()), nodes)) for each in services),
            *(
                _leftover(service, list(group))
                for service, group in groupby(sorted(left, key=_service_of), _service_of)
            ),
            # Containers with no kernel in them, of whoever did not come to remove them.
            *(
                each
                for each in super().list_containers(labels)
                if names.KERNEL_ID not in labels and names.KERNEL_ID not in each.labels
            ),
        ]

    def _tasks(self) -> dict[str, list[dict[str, Any]]]:
        """Those of all kernels, by service."""
        found: dict[str, list[dict[str, Any]]] = {}
        for task in self._client.tasks(filters={"label": names.KERNEL_ID}):
            found.setdefault(task["ServiceID"], []).append(task)
        return found

    def _runs(self) -> dict[str, Run]:
        with engine_errors(doing="Listing the swarm's tasks"):
            tasks, nodes = self._tasks(), self._nodes()
        return {service: Run.last(each, nodes) for service, each in tasks.items()}

    def events(self, since: int) -> EventStream:
        return ServiceEvents(self._runs)

    # -- what a task says -------------------------------------------------------------------

    def logs(self, container: str, lines: int) -> str:
        """Empty, too, of one whose node is lost: it is there."""
        with suppress(ContainerGone), engine_errors(doing=f"Looking for service {container[:12]}"):
            if self._run_of(container).is_lost:
                return ""
            output = self.output(container, lines, follow=False)
            return b"".join(part.data for part in output).decode(errors="replace")
        return ""

    def output(self, container: str, lines: int | None, follow: bool) -> OutputStream:
        client = self._client
        with engine_errors(doing=f"Reading the log of service {container[:12]}"):
            path = f"services/{container}/logs"
            return open_log(client, path, lines, follow, LOG_SECONDS, terminal=False)

    # -- what nobody can, from a manager ----------------------------------------------------

    def rename(self, container: str, name: str) -> None:
        raise EngineError("A swarm cannot rename a service.")

    def unpause(self, container: str) -> None:
        """Quiet: a swarm pauses nothing."""

    def usage(self, container: str) -> Usage:
        raise self._only_there(container, "what its kernel uses")

    def download(self, container: str, path: str, limit: int | None = None) -> bytes:
        if self._is_service(container):
            raise self._only_there(container, "its kernel's files")
        return super().download(container, path, limit)

    def execute(self, container: str, argv: Sequence[str]) -> Execution:
        raise self._only_there(container, "a way into its kernel's container")

    def _is_service(self, container: str) -> bool:
        try:
            self.inspect(container)
        except ContainerGone:
            return False
        return True

    def _only_there(self, container: str, what: str) -> EngineError:
        node = self.inspect(container).node
        return EngineError(
            f"Service {container[:12]}: only the engine of its node {node!r} has {what}; a "
            "swarm's manager does not pass that on."
        )


# Of a service's labels what says whose its secrets are.
_OF_THE_OWNER = (
    *(names.KERNEL_ID, names.LAUNCH_ID, names.KERNEL_NAME, names.OWNER_UID),
    *(names.OWNER, names.PLACE, names.ON_SERVER_EXIT, names.SCHEMA),
)
_FILE = names.PREFIX + "file-"


def _in_labels(about: Mapping[str, str]) -> dict[str, str]:
    return {f"{_FILE}{name}": value for name, value in about.items()}


def _of_labels(secret: Mapping[str, Any]) -> dict[str, str]:
    pairs: Iterator[tuple[str, str]] = iter(secret["Spec"]["Labels"].items())
    return {name.removeprefix(_FILE): value for name, value in pairs if name.startswith(_FILE)}


def _service_of(secret: Mapping[str, Any]) -> str:
    return str(secret["Spec"]["Labels"][names.SERVICE])


def _replicas(spec: Mapping[str, Any]) -> int:
    return int(spec["Mode"]["Replicated"].get("Replicas") or 0)


def _leftover(service: str, secrets: Sequence[Mapping[str, Any]]) -> ContainerInfo:
    """Of a service that is gone, its secrets not. Its removal is theirs."""
    return ContainerInfo(
        id=service, name=service, state="dead", labels=secrets[0]["Spec"]["Labels"], exit_code=1
    )
