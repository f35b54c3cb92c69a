"""Connection info on both sides of the container's wall, and in a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.manager import KernelManager

from container_provisioner.connection import (
    CHANNELS,
    IPC_PORTS,
    TCP_PORTS,
    Endpoint,
    connection_file,
    from_json,
    to_json,
)
from container_provisioner.errors import KernelNotAdoptable

INSIDE = Endpoint(transport="ipc", ip="/run/kernel/sockets/k", ports=IPC_PORTS)
PORTS = {"shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5}


def manager(folder: Path, *, curve: bool) -> KernelManager:
    """A manager as it is before a launch: with its key, its file and perhaps its Curve keys."""
    km = KernelManager(connection_file=str(folder / "kernel.json"), transport="ipc", ip="/t/k")
    for name, port in PORTS.items():
        setattr(km, name, port)
    if curve:
        km.curve_publickey, km.curve_secretkey = zmq.curve_keypair()
    km.write_connection_file()
    return km


def test_ports_are_the_ones_of_jupyters_channels() -> None:
    assert IPC_PORTS == PORTS
    assert TCP_PORTS.keys() == IPC_PORTS.keys()
    assert len(set(TCP_PORTS.values())) == len(CHANNELS)
    assert all(1024 < port < 65536 for port in TCP_PORTS.values())


def test_endpoint_as_fields_and_as_sockets() -> None:
    assert INSIDE.as_fields() == {"transport": "ipc", "ip": "/run/kernel/sockets/k", **PORTS}
    assert sorted(INSIDE.socket_paths()) == [f"/run/kernel/sockets/k-{n}" for n in range(1, 6)]


@pytest.mark.parametrize("curve", [False, True])
def test_the_kernels_file_differs_from_the_managers_only_in_where(
    tmp_path: Path, curve: bool
) -> None:
    km = manager(tmp_path, curve=curve)
    text = connection_file(
        km.get_connection_info(), INSIDE, kernel_name="contained", jupyter_session="a.ipynb"
    )
    theirs = json.loads((tmp_path / "kernel.json").read_text())
    assert json.loads(text) == {
        **theirs,
        "transport": "ipc",
        "ip": "/run/kernel/sockets/k",
        **PORTS,
        "kernel_name": "contained",
        "jupyter_session": "a.ipynb",
    }


@pytest.mark.parametrize("curve", [False, True])
def test_info_survives_a_record(tmp_path: Path, curve: bool) -> None:
    """F5: keys are bytes, JSON has none, and the manager compares what comes back."""
    km = manager(tmp_path, curve=curve)
    info = km.get_connection_info()
    loaded = from_json(json.loads(json.dumps(to_json(info))))
    assert loaded == info
    km._reconcile_connection_info(loaded)
    assert km.get_connection_info() == info


def test_another_process_can_load_it(tmp_path: Path) -> None:
    """F5"""
    first = manager(tmp_path, curve=True)
    loaded = from_json(json.loads(json.dumps(to_json(first.get_connection_info()))))
    second = KernelManager(connection_file=str(tmp_path / "second.json"))
    second._reconcile_connection_info(loaded)
    assert second.get_connection_info() == first.get_connection_info()


@given(st.binary(max_size=40).map(lambda raw: raw.hex().encode()))
def test_any_key_survives(key: bytes) -> None:
    info = {"key": key, "shell_port": 1, "ip": "/t/k"}
    assert from_json(json.loads(json.dumps(to_json(info)))) == info


@pytest.mark.parametrize("info", [None, [], {}, {"key": None}, {"key": 5}, {"key": "ä"}])
def test_info_without_a_key_is_refused(info: object) -> None:
    with pytest.raises(KernelNotAdoptable, match="no connection info with a key"):
        from_json(info)


def test_the_original_is_left_alone() -> None:
    info = {"key": b"k"}
    assert (to_json(info), from_json({"key": "k"}), info) == ({"key": "k"}, info, {"key": b"k"})


def test_no_port_of_a_kernel_is_given_out_by_linux_itself() -> None:
    """Docker's resolver listens on such a port in the container, on every network of one's own."""
    assert max(TCP_PORTS.values()) < 32768
