"""A `ContainerSpec` as a swarm's service of one task. Pure; the hardening is here.

The fields are those of the Docker Engine API, "Create a service". What a container has and a
service cannot is said where it is missing.
"""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from ..labels import NETWORK
from ..spec import ContainerSpec, Limits, Placement, Tmpfs

# Secrets are read-only files, and a kernel with Curve keys writes its connection file anew: they
# are copied into a directory in memory. Before API 1.44 a service cannot forbid new privileges;
# util-linux and busybox can, in most images.
_DELIVERED = "kernel"  # below /run/secrets
_DELIVER = """umask 077
cp -R /run/secrets/{delivered}/. {directory}/ && cd {working_dir} || exit
if setpriv --no-new-privs true 2>/dev/null; then exec setpriv --no-new-privs "$0" "$@"; fi
exec "$0" "$@"
"""
_DIRECTORY_BYTES = 8 * 1024**2
SECRET_BYTES = 500 * 1000  # each; a swarm takes no more

# Nobody needs longer to end on SIGTERM: the kernel has had its shutdown message.
STOP_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """One file of what is delivered."""

    path: str  # in the directory that it is delivered to
    content: bytes
    uid: int
    gid: int


def service_body(spec: ContainerSpec) -> dict[str, Any]:
    """The request's JSON. No task yet: it is to have its secrets first."""
    placement = spec.placement or Placement()
    return {
        "Name": spec.name,
        "Labels": {**spec.labels, NETWORK: spec.network},
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {
            "ContainerSpec": _container(spec),
            "Resources": {
                "Limits": _resources(spec.limits),
                "Reservations": _reservations(placement),
            },
            "RestartPolicy": {"Condition": "none"},  # jupyter_client restarts kernels
            "Placement": {
                "Constraints": list(placement.constraints),
                "Preferences": [
                    {"Spread": {"SpreadDescriptor": label}} for label in placement.preferences
                ],
            },
            # "bridge" is what a service without networks gets, and cannot be named.
            "Networks": [] if spec.network == "bridge" else [{"Target": spec.network}],
            "LogDriver": {
                "Name": "json-file",
                "Options": {"max-size": str(spec.limits.log_size), "max-file": "1"},
            },
        },
        "EndpointSpec": {
            # Of the one node that it runs on. The swarm's own way, ingress, is to all nodes'
            # ports at once, and would keep them from everybody else.
            "Ports": [
                {"Protocol": "tcp", "TargetPort": port, "PublishMode": "host"}
                for port in spec.published_ports
            ],
        },
    }


def _container(spec: ContainerSpec) -> dict[str, Any]:
    argv = spec.argv
    if spec.volumes:
        (directory,) = spec.volumes
        script = _DELIVER.format(
            delivered=_DELIVERED,
            directory=directory,
            working_dir=shlex.quote(spec.working_dir),
        )
        argv = ("/bin/sh", "-c", script, *argv)
    return {
        "Image": spec.image,
        "Command": [argv[0]],  # in the place of the image's ENTRYPOINT
        "Args": list(argv[1:]),
        "User": spec.user,
        "Hostname": "kernel",
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        # Not the working directory: the engine would make that, as root's, and what is then
        # mounted there in memory gets its mode.
        "Dir": "/",
        "Healthcheck": {"Test": ["NONE"]},
        "Init": True,
        "CapabilityDrop": ["ALL"],
        "Privileges": {"NoNewPrivileges": True},  # since API 1.44; older ones do not look at it
        "ReadOnly": spec.read_only,
        "StopSignal": "SIGTERM",
        "StopGracePeriod": STOP_SECONDS * 10**9,
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": mount.read_only,
                "BindOptions": {"Propagation": "rprivate"},
            }
            for mount in spec.mounts
        ]
        + [_in_memory(tmpfs) for tmpfs in (*spec.tmpfs, *_more_memory(spec))],
    }


def _more_memory(spec: ContainerSpec) -> Iterator[Tmpfs]:
    for target in spec.volumes:
        yield Tmpfs(target=target, size=_DIRECTORY_BYTES)
    if spec.limits.shm_size:
        yield Tmpfs(target="/dev/shm", size=spec.limits.shm_size)


def _in_memory(tmpfs: Tmpfs) -> dict[str, Any]:
    # A service's can have no owner, so all in it may write; they are all the kernel's user. And
    # nothing can be executed in it.
    return {
        "Type": "tmpfs",
        "Target": tmpfs.target,
        "TmpfsOptions": {"SizeBytes": tmpfs.size, "Mode": 0o1777},
    }


def _resources(limits: Limits) -> dict[str, Any]:
    # Nothing bounds swap: a kernel may use as much of that as of memory, where a node has it.
    return {
        "MemoryBytes": limits.memory or 0,
        "NanoCPUs": int(limits.cpus * 1e9) if limits.cpus else 0,
        "Pids": limits.pids or 0,
    }


def _reservations(placement: Placement) -> dict[str, Any]:
    return {
        "MemoryBytes": placement.memory or 0,
        "NanoCPUs": int(placement.cpus * 1e9) if placement.cpus else 0,
        "GenericResources": [
            {"DiscreteResourceSpec": {"Kind": kind, "Value": int(value)}}
            if value.isdecimal()
            else {"NamedResourceSpec": {"Kind": kind, "Value": value}}
            for kind, value in placement.resources.items()
        ],
    }


def secret_files(archive: bytes) -> Iterator[SecretFile]:
    """The files in a tar archive. Raises `ConfigurationError` for one that no secret can hold."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            file = members.extractfile(member) if member.isreg() else None
            if file is None:
                continue
            if member.size > SECRET_BYTES:
                raise ConfigurationError(
                    f"{member.name!r} is to be delivered to the kernel and has {member.size} "
                    f"bytes; a swarm's secret holds {SECRET_BYTES}. Put it into the image."
                )
            if member.size:  # a secret cannot be empty
                yield SecretFile(
                    path=member.name, content=file.read(), uid=member.uid, gid=member.gid
                )


def secret_reference(secret_id: str, name: str, file: Mapping[str, str]) -> dict[str, Any]:
    """A secret as a service refers to it. `file` has its ``path``, ``uid`` and ``gid``."""
    return {
        "SecretID": secret_id,
        "SecretName": name,
        "File": {
            "Name": f"{_DELIVERED}/{file['path']}",
            "UID": file["uid"],
            "GID": file["gid"],
            "Mode": 0o600,  # as its copy
        },
    }
