"""A container's definition as a swarm's service, and a service as a container. No engine."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from traitlets import TraitError

from container_provisioner import labels
from container_provisioner.engine.base import ContainerInfo, ImageInfo
from container_provisioner.engine.service_answers import Run, node_of, service_info
from container_provisioner.engine.service_body import secret_files, service_body
from container_provisioner.errors import ConfigurationError
from container_provisioner.root import pinned
from container_provisioner.spec import ContainerSpec, Limits, Placement, Tmpfs
from container_provisioner.swarm.settings import SwarmSettings
from container_provisioner.transports import transport_named

URL = "swarm+tcp://192.0.2.1:2376?tls=/certificates"
SPEC = ContainerSpec(
    name="jupyter-kernel-1",
    image="image@sha256:1",
    argv=("python", "-m", "ipykernel_launcher"),
    working_dir="/home/kernel",
    volumes=("/run/kernel",),
    tmpfs=(Tmpfs(target="/home/kernel", size=1024, mode=0o700, uid=7, gid=7),),
    network="bridge",
    published_ports=(28501,),
    limits=Limits(memory=2048, cpus=1.5, pids=10, shm_size=512),
    placement=Placement(
        constraints=("node.role==worker",),
        preferences=("node.labels.rack",),
        memory=1024,
        resources={"NVIDIA-GPU": "2", "FPGA": "one"},
    ),
)


def test_what_a_service_is_asked_to_be():
    body = service_body(SPEC)
    template = body["TaskTemplate"]
    container = template["ContainerSpec"]
    assert body["Mode"] == {"Replicated": {"Replicas": 0}}
    assert body["Labels"] == {labels.NETWORK: "bridge"}
    assert body["EndpointSpec"]["Ports"] == [
        {"Protocol": "tcp", "TargetPort": 28501, "PublishMode": "host"}
    ]
    assert template["RestartPolicy"] == {"Condition": "none"}
    assert template["Networks"] == []
    assert template["Placement"] == {
        "Constraints": ["node.role==worker"],
        "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}],
    }
    assert template["Resources"] == {
        "Limits": {"MemoryBytes": 2048, "NanoCPUs": 1_500_000_000, "Pids": 10},
        "Reservations": {
            "MemoryBytes": 1024,
            "NanoCPUs": 0,
            "GenericResources": [
                {"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 2}},
                {"NamedResourceSpec": {"Kind": "FPGA", "Value": "one"}},
            ],
        },
    }
    assert container["CapabilityDrop"] == ["ALL"]
    assert container["Init"]
    assert container["ReadOnly"]
    assert container["Command"] == ["/bin/sh"]
    assert container["Args"][2:] == list(SPEC.argv)
    sizes = {mount["Target"]: mount["TmpfsOptions"]["SizeBytes"] for mount in container["Mounts"]}
    assert sizes == {"/home/kernel": 1024, "/run/kernel": 8 * 1024**2, "/dev/shm": 512}


def test_a_secret_holds_so_much_and_no_more():
    def archive(size: int) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo("resources/logo.png")
            member.size, member.uid, member.gid = size, 7, 8
            tar.addfile(member, io.BytesIO(bytes(size)))
            tar.addfile(tarfile.TarInfo("environment"))  # a swarm refuses an empty secret
        return buffer.getvalue()

    (file,) = secret_files(archive(500_000))
    assert (file.path, len(file.content), file.uid, file.gid) == (
        "resources/logo.png",
        500_000,
        7,
        8,
    )
    with pytest.raises(ConfigurationError, match=r"resources/logo\.png.*500001"):
        list(secret_files(archive(500_001)))


def described(
    *states: str,
    replicas: int = 1,
    node: str = "ready",
    code: int = 0,
    error: str = "",
    **service_labels: str,
) -> ContainerInfo:
    """A service whose tasks have been in these states, the last one at last."""
    nodes = {
        "n1": node_of(
            {
                "ID": "n1",
                "Description": {"Hostname": "one"},
                "Status": {"State": node, "Addr": "0.0.0.0", "Message": "heartbeat failure"},
                "ManagerStatus": {"Addr": "192.0.2.7:2377"},
            }
        )
    }
    ports = [{"TargetPort": port, "PublishedPort": port + 10_000} for port in range(28501, 28506)]
    tasks: list[dict[str, Any]] = [
        {
            "ID": f"task{number}",
            "CreatedAt": f"2026-01-0{number + 1}T00:00:00Z",
            "NodeID": "n1",
            "Status": {
                "State": state,
                "Err": error,
                "ContainerStatus": {"ExitCode": code},
                "PortStatus": {"Ports": ports},
            },
        }
        for number, state in enumerate(states)
    ]
    body = service_body(SPEC)
    body["Labels"].update({labels.PREFIX + name: value for name, value in service_labels.items()})
    body["Mode"]["Replicated"]["Replicas"] = replicas
    service = {"ID": "s1", "CreatedAt": "2026-01-01T00:00:00Z", "Spec": body}
    return service_info(service, Run.last(tasks, nodes))


@pytest.mark.parametrize(
    ("found", "state", "code", "says"),
    [
        (described(replicas=0), "created", 0, ""),
        (described(), "created", 0, ""),
        (described("pending", error="no suitable node"), "created", 0, "no suitable node"),
        (described("preparing"), "created", 0, ""),
        (described("running"), "running", 0, ""),
        (described("complete"), "exited", 0, ""),
        (described("failed", code=7, error="task: non-zero exit (7)"), "exited", 7, ""),
        (described("failed", code=137), "exited", 137, "most likely because it ran out of memory"),
        (described("rejected", error="No such image: x"), "exited", 1, "No such image: x on node"),
        (described("rejected", error="network n1 exists"), "created", 0, "network n1 exists on"),
        (described("rejected", replicas=0, error="network n1 exists"), "exited", 1, "network n1"),
        (described("failed", "running"), "running", 0, ""),
        (described("running", node="down"), "dead", 1, "its node 'one' was lost"),
        (described("running", node="unknown"), "running", 0, ""),
        (described(replicas=0, **{"end-signal": "15"}), "exited", 143, ""),
        (described("shutdown", replicas=0, code=137, **{"end-signal": "9"}), "exited", 137, ""),
    ],
    ids=lambda value: "" if isinstance(value, ContainerInfo) else str(value),
)
def test_what_a_task_says_of_its_kernel(found: ContainerInfo, state: str, code: int, says: str):
    """Alive, ended with a code, or not to be told: a node that a new manager has not heard of yet
    is not a lost one."""
    assert (found.state, found.exit_code) == (state, code)
    assert says in found.error
    assert bool(says) == bool(found.error)


@pytest.mark.parametrize(
    ("nodes", "address"), [({}, "192.0.2.7"), ({"one": "198.51.100.1"}, "198.51.100.1")]
)
def test_where_a_node_is_found(nodes: dict[str, str], address: str, tmp_path: Any):
    """By what the swarm says, and where a manager calls itself 0.0.0.0, by where it listens."""
    endpoint = transport_named("tcp", network="bridge", nodes=nodes).resolve(
        tmp_path, described("running")
    )
    assert (endpoint.ip, endpoint.ports["shell_port"]) == (address, 38501)


@pytest.mark.parametrize(
    ("image", "digests", "found"),
    [
        ("python:3.12", ("other@sha256:2", "python@sha256:3"), "python@sha256:3"),
        ("host:5000/python", ("host:5000/python@sha256:3",), "host:5000/python@sha256:3"),
        ("built-here", (), "sha256:1"),
    ],
)
def test_all_nodes_have_the_same_image(image: str, digests: tuple[str, ...], found: str):
    assert pinned(image, ImageInfo(id="sha256:1", digests=digests)) == found


def test_settings_of_a_swarm():
    settings = SwarmSettings(
        image="x", placement_constraints=["node.labels.a == b"], node_addresses={"one": "host"}
    ).settings(URL)
    assert settings.topology.nodes == {"one": "host"}
    assert (settings.transport, settings.network) == ("tcp", "internal")
    assert settings.restart_mode == "recreate"
    assert settings.placement == Placement(constraints=("node.labels.a == b",))


@pytest.mark.parametrize(
    ("stanza", "says"),
    [
        ({"gpus": "all"}, "generic_resources"),
        ({"runtime": "runsc"}, "default-runtime"),
        ({"warm_pool_size": 1}, "warm_pool_size"),
        ({"extra_create_options": {"Hostname": "x"}}, "for containers"),
        ({"placement_constraints": ["anywhere"]}, "NAME==VALUE"),
        ({"placement_preferences": ["spread=rack"]}, "node.labels.NAME"),
        ({"transport": "ipc"}, "any of its nodes"),
        ({"workspace": "ro"}, "any of its nodes"),
    ],
)
def test_what_a_service_cannot_have_is_refused(stanza: dict[str, Any], says: str):
    with pytest.raises((ConfigurationError, TraitError), match=says):
        SwarmSettings(image="x", **stanza).settings(URL)
