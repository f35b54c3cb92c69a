"""Two definitions share a digest exactly when one container can serve for both."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from container_provisioner.spec import ContainerSpec, Limits, Mount, Placement, Tmpfs

MOUNT = Mount(source="/a", target="/b")
TMPFS = Tmpfs(target="/tmp", size=1)
SPEC = ContainerSpec(
    name="n",
    image="i",
    argv=("k", "-f"),
    labels={"a": "b"},
    environment={"HOME": "/h"},
    mounts=(MOUNT,),
    tmpfs=(TMPFS,),
    extra={"HostConfig": {"Ulimits": []}, "Hostname": "h"},
)
OTHER: dict[str, Any] = {
    "name": "m",
    "labels": {"a": "c"},
    "environment": {"HOME": "/g"},
    "image": "j",
    "argv": ("k", "-g"),
    "working_dir": "/w",
    "user": "1:1",
    "mounts": (replace(MOUNT, read_only=False),),
    "directory": "/somewhere",
    "tmpfs": (replace(TMPFS, uid=5),),
    "network": "bridge",
    "published_ports": (1,),
    "published_on": "0.0.0.0",
    "volumes": ("/v",),
    "read_only": False,
    "limits": Limits(memory=1),
    "gpus": "all",
    "runtime": "runsc",
    "extra": {"HostConfig": {"Ulimits": [1]}, "Hostname": "h"},
    "placement": Placement(),
}
SAYS_WHOSE_IT_IS = {"name", "labels", "environment", "directory"}


def test_equal_definitions_share_a_digest() -> None:
    digest = SPEC.digest()
    assert digest == replace(SPEC).digest()
    assert len(digest) == 16
    assert int(digest, 16)


def test_the_order_of_a_mapping_is_nothing() -> None:
    turned = dict(reversed(list(SPEC.extra.items())))
    assert replace(SPEC, extra=turned).digest() == SPEC.digest()


def test_the_digest_is_the_same_in_another_process_and_another_year() -> None:
    """A restart in place compares it with that of a record."""
    assert ContainerSpec(name="n", image="i", argv=("k",)).digest() == "ccd8d9dcb70d0614"


def test_every_field_is_considered_here() -> None:
    assert OTHER.keys() == {field.name for field in fields(ContainerSpec)}


@pytest.mark.parametrize("name", OTHER)
def test_anything_but_whose_it_is_changes_the_digest(name: str) -> None:
    changed = replace(SPEC, **{name: OTHER[name]})
    assert changed != SPEC
    assert (changed.digest() == SPEC.digest()) is (name in SAYS_WHOSE_IT_IS)


@pytest.mark.parametrize("field", [field.name for field in fields(Limits)])
def test_every_limit_changes_the_digest(field: str) -> None:
    limited = replace(SPEC, limits=replace(Limits(), **{field: 12345}))
    assert limited.digest() != SPEC.digest()


def test_the_private_directorys_path_changes_nothing() -> None:
    """Only what is mounted from it, and where."""

    def mounted(directory: str, source: str) -> str:
        mount = Mount(source=source, target="/run/kernel")
        return replace(SPEC, directory=directory, mounts=(mount,)).digest()

    assert mounted("/r/one", "/r/one/sockets") == mounted("/r/two", "/r/two/sockets")
    assert mounted("/r/one", "/r/one/sockets") != mounted("/r/two", "/r/two/other")
    assert mounted("/r/one", "/elsewhere") != mounted("/r/one", "/r/one/elsewhere")


def test_where_one_argument_ends_matters() -> None:
    assert replace(SPEC, argv=("k -f",)).digest() != SPEC.digest()


def test_defaults_are_the_safe_ones() -> None:
    spec = ContainerSpec(name="n", image="i", argv=("k",))
    assert (spec.network, spec.read_only, spec.user, spec.published_ports) == (
        "none",
        True,
        "65534:65534",
        (),
    )
    assert MOUNT.read_only
