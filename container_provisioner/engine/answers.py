"""What the engine's API answers about a container, as values. Missing parts are empty."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, cast

from ..spec import Limits, Mount
from .base import ENDED, ContainerInfo, PullStep, State, Usage

_EXITED = re.compile(r"Exited \((\d+)\)")


def container_info(body: Mapping[str, Any]) -> ContainerInfo:
    """``GET /containers/{id}/json``, whatever the network."""
    state = body["State"]
    started = state.get("StartedAt") or ""  # the year 1 when it never was
    settings, config = body.get("NetworkSettings") or {}, body.get("Config") or {}
    host = body.get("HostConfig") or {}
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
        labels=config.get("Labels") or {},
        image=config.get("Image") or "",
        created=seconds_of(body.get("Created") or ""),
        exit_code=state.get("ExitCode") or 0,
        oom_killed=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        started_at="" if started.startswith("0001-") else started,
        finished_at=state.get("FinishedAt") or "" if state["Status"] in ENDED else "",
        addresses={name: address for name, address in addresses.items() if address},
        published=published,
        user=config.get("User") or "",
        network=host.get("NetworkMode") or "",
        read_only=bool(host.get("ReadonlyRootfs")),
        limits=Limits(
            memory=host.get("Memory") or None,
            cpus=(host.get("NanoCpus") or 0) / 1e9 or None,
            pids=host.get("PidsLimit") or None,
            shm_size=host.get("ShmSize") or None,
        ),
        mounts=tuple(
            Mount(source=item["Source"], target=item["Destination"], read_only=not item.get("RW"))
            for item in body.get("Mounts") or ()
            if item.get("Type") == "bind"
        ),
        volumes=tuple(_volumes(body.get("Mounts") or (), host.get("Tmpfs") or {})),
    )


def _volumes(mounts: Iterable[Mapping[str, Any]], tmpfs: Iterable[str]) -> Iterator[Mount]:
    """What is mounted and is no path of the host's by its own name."""
    for item in mounts:
        if item.get("Type") != "bind":
            source = (item.get("Source") or "") if item.get("Type") == "volume" else ""
            yield Mount(source=source, target=item["Destination"], read_only=not item.get("RW"))
    for target in tmpfs:
        yield Mount(source="", target=target, read_only=False)


def listed_exit_code(status: str) -> int:
    """From what a list has instead: ``Exited (137) 3 hours ago``. 0 for any other words."""
    found = _EXITED.match(status)
    return int(found[1]) if found else 0


def container_usage(body: Mapping[str, Any]) -> Usage:
    """``GET /containers/{id}/stats``, as `docker stats` counts it."""
    memory, processors = body.get("memory_stats") or {}, body.get("cpu_stats") or {}
    pids = int((body.get("pids_stats") or {}).get("current") or 0)
    if not memory.get("usage") and not pids:
        return Usage()  # it has ended
    details = memory.get("stats") or {}
    # cgroups of version 1 call it total_inactive_file.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        memory=max(0, int(memory.get("usage") or 0) - int(cache)),
        memory_limit=int(memory.get("limit") or 0),
        cpu_seconds=int((processors.get("cpu_usage") or {}).get("total_usage") or 0) / 1e9,
        pids=pids,
        at=moment(body.get("read") or ""),
    )


def seconds_of(text: str) -> int:
    """Since the epoch; 0 for no time."""
    return int(moment(text))


def moment(text: str) -> float:
    """Seconds since the epoch, to the microsecond; 0 for no time, or none that makes sense.

    The engine adds nanoseconds, for which `datetime` is too coarse, and, if its clock has another
    zone, its distance from UTC.
    """
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)?$", text)
    if not found or text.startswith("0001-"):
        return 0.0
    found_at = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    seconds = found_at.timestamp() + float(found[2] or 0)
    if found[3] and found[3] != "Z":
        hours, minutes = found[3][1:].split(":")
        distance = int(hours) * 3600 + int(minutes) * 60
        seconds -= distance if found[3][0] == "+" else -distance
    return seconds


def pull_step(body: Mapping[str, Any]) -> PullStep:
    """One line of the stream that ``POST /images/create`` answers."""
    status, detail = str(body.get("status") or ""), body.get("progressDetail") or {}
    # "Pulling from library/python" has the image's tag where the others have a layer.
    is_of_layer = not status.startswith("Pulling from ")
    return PullStep(
        layer=str(body.get("id") or "") if is_of_layer else "",
        status=status,
        current=int(detail.get("current") or 0),
        total=int(detail.get("total") or 0),
    )
