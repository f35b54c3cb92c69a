"""A `ContainerSpec` as the body of ``POST /containers/create``. Pure; the hardening is here.

The fields are those of the Docker Engine API, "Create a container". We write them ourselves, as
the API documents them, rather than through the SDK's keyword arguments: the user's
``extra_create_options`` are merged into the very same structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError
from ..labels import INTERNAL_NETWORK, PUBLISHED_NETWORK
from ..spec import ContainerSpec, Tmpfs

# What the package answers for. A stanza that could set these could undo the sandbox, or make us
# lose sight of the container.
RESERVED = {
    "": {
        *("Image", "Cmd", "User", "Env", "Labels", "WorkingDir", "Healthcheck"),
        *("NetworkDisabled", "NetworkingConfig"),
    },
    "HostConfig": {
        *("Privileged", "CapAdd", "CapDrop", "SecurityOpt", "UsernsMode", "PidMode", "IpcMode"),
        *("NetworkMode", "Binds", "Mounts", "VolumesFrom", "Tmpfs", "ReadonlyRootfs", "Init"),
        *("AutoRemove", "RestartPolicy", "Memory", "MemorySwap", "NanoCpus", "PidsLimit"),
        *("ShmSize", "Runtime", "DeviceRequests", "MaskedPaths", "ReadonlyPaths", "CgroupParent"),
        *("OomKillDisable", "CgroupnsMode", "UTSMode", "Devices", "DeviceCgroupRules", "Sysctls"),
    },
}


def check_extra(extra: Mapping[str, Any]) -> None:
    """Refuse what the package itself decides. Raises `ConfigurationError` naming the fields."""
    for name in extra:
        if name.casefold() == "hostconfig" and name != "HostConfig":
            raise ConfigurationError(f"extra_create_options: write HostConfig, not {name}.")
    host = extra.get("HostConfig", {})
    if not isinstance(host, Mapping):
        raise ConfigurationError("extra_create_options: HostConfig must be a mapping.")
    taken = _reserved(extra, "") + [f"HostConfig.{name}" for name in _reserved(host, "HostConfig")]
    if taken:
        raise ConfigurationError(
            f"extra_create_options may not set {', '.join(taken)}: "
            "use the trait for it where there is one; the others are what makes the sandbox."
        )


def _reserved(fields: Mapping[str, Any], level: str) -> list[str]:
    # The engine takes a field's name in any case, and the last of several.
    reserved = {name.casefold() for name in RESERVED[level]}
    return sorted(name for name in fields if name.casefold() in reserved)


def create_body(spec: ContainerSpec) -> dict[str, Any]:
    """The request's JSON. All capabilities dropped and no new privileges, whatever the spec."""
    limits = spec.limits
    body: dict[str, Any] = {
        "Image": spec.image,
        # The whole command, so that an image's ENTRYPOINT cannot swallow it. (Cmd alone would be
        # handed to the image's entrypoint as arguments.)
        "Entrypoint": [spec.argv[0]],
        "Cmd": list(spec.argv[1:]),
        "User": spec.user,
        "Hostname": "kernel",
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "WorkingDir": spec.working_dir,
        "Labels": dict(spec.labels),
        "Healthcheck": {"Test": ["NONE"]},
        # The container has a network namespace all the same, with loopback up: the runtime makes
        # it. What the engine leaves out is a sandbox of its own around it, for which Docker starts
        # itself once more: half of the time that a start took. Other runtimes were not tried.
        "NetworkDisabled": spec.network == "none" and not spec.runtime,
        "ExposedPorts": {f"{port}/tcp": {} for port in spec.published_ports},
        "HostConfig": {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Init": True,
            "NetworkMode": spec.network,
            "IpcMode": "private",
            "ReadonlyRootfs": spec.read_only,
            # type=bind, not the older Binds: a source that is missing is refused, not made. Mounts
            # made below it later are not seen: rprivate is the default. Below the engine's own
            # folder, where volumes are, it takes rslave only, and by default.
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": mount.source,
                    "Target": mount.target,
                    "ReadOnly": mount.read_only,
                }
                for mount in spec.mounts
            ]
            + [
                {
                    "Type": "volume",
                    "Target": target,
                    # The labels are for when somebody removes the container and forgets these.
                    "VolumeOptions": {"NoCopy": True, "Labels": dict(spec.labels)},
                }
                for target in spec.volumes
            ],
            "Tmpfs": {tmpfs.target: _tmpfs_options(tmpfs) for tmpfs in spec.tmpfs},
            "PortBindings": {
                f"{port}/tcp": [{"HostIp": spec.published_on, "HostPort": ""}]
                for port in spec.published_ports
            },
            "Memory": limits.memory or 0,
            "MemorySwap": limits.memory or 0,  # memory and swap together: no swap
            "NanoCpus": int(limits.cpus * 1e9) if limits.cpus else 0,
            "PidsLimit": limits.pids or 0,
            "ShmSize": limits.shm_size or 0,
            "LogConfig": {
                "Type": "json-file",
                "Config": {"max-size": str(limits.log_size), "max-file": "1"},
            },
        },
    }
    if spec.network in (INTERNAL_NETWORK, PUBLISHED_NETWORK):
        # Docker before 26 asks the host's resolver for names that it does not know, on internal
        # networks too (CVE-2024-29018); nobody answers here. And then a lookup takes not ten
        # seconds to fail, but one.
        body["HostConfig"]["Dns"] = ["127.0.0.1"]
        body["HostConfig"]["DnsOptions"] = ["timeout:1", "attempts:1"]
    if spec.runtime:
        body["HostConfig"]["Runtime"] = spec.runtime
    if spec.gpus:
        body["HostConfig"]["DeviceRequests"] = [_device_request(spec.gpus)]
    return _merged(body, spec.extra)


def _tmpfs_options(tmpfs: Tmpfs) -> str:
    # exec: compiled extensions that a user installs there are mapped executable.
    return (
        f"rw,exec,nosuid,nodev,size={tmpfs.size},mode={tmpfs.mode:o},"
        f"uid={tmpfs.uid},gid={tmpfs.gid}"
    )


def _device_request(gpus: str) -> dict[str, Any]:
    """As ``docker run --gpus``: ``all``, a count, or ``device=ID[,ID…]``."""
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
    if gpus.startswith("device="):
        return {**request, "DeviceIDs": gpus.removeprefix("device=").split(",")}
    return {**request, "Count": -1 if gpus == "all" else int(gpus)}


def _merged(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` over `body`, mappings merged level by level, everything else replaced."""
    merged = dict(body)
    for name, value in extra.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged
