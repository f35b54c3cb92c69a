"""The names by which the engine knows our containers."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from container_provisioner import labels
from container_provisioner.labels import container_name, kernel_labels

# As the engine's own error message has it: "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed".
VALID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# A host name in a container network, and a file name on some of the engine's storage.
LONGEST = 128

IDS = st.one_of(
    st.text(max_size=200),
    st.from_regex(r"[a-zA-Z0-9_.-]{0,80}", fullmatch=True),
    st.text("a/\n ", max_size=8),
)


def test_a_uuid_stands_in_the_name_as_it_is() -> None:
    kernel_id = str(uuid.uuid4())
    assert container_name(kernel_id) == f"jupyter-kernel-{kernel_id}"


@pytest.mark.parametrize("kernel_id", ["", "..", "-rm", "a b", "a\n", "ä", "../../x", "a" * 65])
def test_other_ids_are_told_apart_by_a_hash(kernel_id: str) -> None:
    name = container_name(kernel_id)
    assert VALID.fullmatch(name)
    assert re.search(r"-[0-9a-f]{12}$", name)


@given(IDS)
def test_a_name_is_valid_and_always_the_same(kernel_id: str) -> None:
    name = container_name(kernel_id)
    assert VALID.fullmatch(name)
    assert len(name) <= LONGEST
    assert container_name(kernel_id) == name


@given(IDS, IDS)
def test_two_kernels_have_two_names(one: str, other: str) -> None:
    """F26: a container of the same name is the same kernel's."""
    assume(one != other)
    assert container_name(one) != container_name(other)


@given(IDS)
def test_no_id_is_made_up_to_have_the_name_of_another(kernel_id: str) -> None:
    """F32"""
    lookalike = re.sub("^jupyter-kernel.", "", container_name(kernel_id))
    assume(lookalike != kernel_id)
    assert container_name(lookalike) != container_name(kernel_id)


def test_labels_say_whose_a_container_is() -> None:
    assert kernel_labels(
        kernel_id="k 1",
        launch_id="l",
        kernel_name="contained",
        uid=1000,
        owner="o",
        place="p",
        on_server_exit="keep",
    ) == {
        "io.github.container-provisioner.owner": "o",
        "io.github.container-provisioner.place": "p",
        "io.github.container-provisioner.on-server-exit": "keep",
        "io.github.container-provisioner.kernel-id": "k 1",
        "io.github.container-provisioner.launch-id": "l",
        "io.github.container-provisioner.kernel-name": "contained",
        "io.github.container-provisioner.owner-uid": "1000",
        "io.github.container-provisioner.schema": "1",
    }


def test_every_label_has_the_prefix_and_a_name_of_its_own() -> None:
    names = [value for name, value in vars(labels).items() if name.isupper() and "." in value]
    assert all(name.startswith("io.github.container-provisioner.") for name in names)
    assert len(names) == len(set(names))
