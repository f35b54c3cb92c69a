"""Profiles, contradictions, and who the kernel may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.errors import ConfigurationError, UserRefused
from container_provisioner.policy import (
    PROFILES,
    KernelUser,
    Profile,
    Settings,
    choose_network,
    choose_transport,
    choose_user,
    is_root,
)

ROOT = KernelUser(0, 0)
NOBODY = KernelUser(65534, 65534)
ALICE = KernelUser(1000, 100)
JOVYAN = KernelUser(1001, 101)
OWNER = KernelUser(1002, 102)


def test_profiles() -> None:
    assert {
        "sandbox": Profile(network="none", workspace="ro", read_only=True),
        "dev": Profile(network="bridge", workspace="rw", read_only=False),
    } == PROFILES


@pytest.mark.parametrize(
    ("name", "chosen"), [("auto", "ipc"), ("ipc", "ipc"), ("tcp", "tcp"), ("network", "network")]
)
def test_transport(name: str, chosen: str) -> None:
    assert choose_transport(name) == chosen


@pytest.mark.parametrize("transport", ["tcp", "network"])
def test_a_transport_over_a_network_needs_one(transport: str) -> None:
    words = rf"transport '{transport}' needs a network, and network is 'none' \(profile 'sandbox'\)"
    with pytest.raises(ConfigurationError, match=words):
        Settings(transport=transport).check()
    Settings(transport=transport, network="bridge").check()


@pytest.mark.parametrize(
    ("named", "transport", "profile", "chosen"),
    [
        ("", "ipc", "sandbox", "none"),
        ("", "tcp", "sandbox", "internal"),
        ("", "network", "sandbox", "none"),  # which is then refused: it wants to be named
        ("", "tcp", "dev", "bridge"),
        ("none", "tcp", "sandbox", "none"),
        ("bridge", "tcp", "sandbox", "bridge"),
        ("internal", "tcp", "dev", "internal"),
        ("mine", "ipc", "sandbox", "mine"),
    ],
)
def test_network(named: str, transport: str, profile: str, chosen: str) -> None:
    assert choose_network(named, transport, PROFILES[profile]) == chosen


@pytest.mark.parametrize("network", ["host", "container:abc", "container:"])
def test_networks_that_reach_loopback_are_refused(network: str) -> None:
    with pytest.raises(ConfigurationError, match=f"network '{network}'"):
        Settings(network=network).check()


@pytest.mark.parametrize("network", ["none", "internal", "bridge", "my-net", "hosts", "default"])
def test_other_networks_are_fine(network: str) -> None:
    Settings(network=network).check()


@pytest.mark.parametrize(
    "user", ["", "0", "00", "+0", "-0", "root", "0:100", "root:users", " 0", "0 ", ":5", "000:1"]
)
def test_root_in_any_spelling(user: str) -> None:
    assert is_root(user)


@pytest.mark.parametrize("user", ["1", "1000", "1:0", "nobody", "01", "0x0", "rooty", "Root", "10"])
def test_not_root(user: str) -> None:
    assert not is_root(user)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_is_root_by_number(uid: int, gid: int) -> None:
    assert is_root(str(KernelUser(uid, gid))) is (uid == 0)


def choose(
    user: str,
    caller: KernelUser,
    image: KernelUser | None = None,
    owner: KernelUser | None = None,
    **settings: str | bool,
) -> KernelUser:
    return choose_user(
        Settings(user=user, **settings),  # type: ignore[arg-type]
        caller=caller,
        image_user=image,
        workspace_owner=owner,
    )


@pytest.mark.parametrize(
    ("caller", "image", "owner", "workspace", "chosen"),
    [
        # A caller that has a uid gives it, whatever else there is.
        (ALICE, None, None, "none", ALICE),
        (ALICE, JOVYAN, OWNER, "rw", ALICE),
        (ALICE, ROOT, ROOT, "rw", ALICE),
        # Root gives that of the folder which the kernel may write...
        (ROOT, None, OWNER, "rw", OWNER),
        (ROOT, JOVYAN, OWNER, "rw", OWNER),
        # ...or else the image's...
        (ROOT, JOVYAN, OWNER, "ro", JOVYAN),
        (ROOT, JOVYAN, ROOT, "rw", JOVYAN),
        (ROOT, JOVYAN, None, "rw", JOVYAN),
        # ...or else nobody's.
        (ROOT, None, None, "none", NOBODY),
        (ROOT, None, OWNER, "ro", NOBODY),
        (ROOT, None, ROOT, "rw", NOBODY),
        (ROOT, ROOT, ROOT, "rw", NOBODY),
        (ROOT, KernelUser(0, 5), KernelUser(0, 5), "rw", NOBODY),
    ],
)
@pytest.mark.parametrize("allow_root", [False, True])
def test_auto_is_never_root(
    caller: KernelUser,
    image: KernelUser | None,
    owner: KernelUser | None,
    workspace: str,
    chosen: KernelUser,
    allow_root: bool,
) -> None:
    assert (
        choose("auto", caller, image, owner, workspace=workspace, allow_root=allow_root) == chosen
    )


def test_the_images_user() -> None:
    assert choose("image", ROOT, JOVYAN) == JOVYAN
    assert choose("image", JOVYAN, JOVYAN) == JOVYAN
    assert choose("image", ROOT, ROOT, allow_root=True) == ROOT
    with pytest.raises(UserRefused, match="needs an image"):
        choose("image", ROOT, None)
    with pytest.raises(UserRefused, match="the image names no other user"):
        choose("image", ROOT, ROOT)


@pytest.mark.parametrize(
    ("user", "chosen"),
    [
        ("1000:100", ALICE),
        ("4242", KernelUser(4242, 4242)),
        ("4242:0", KernelUser(4242, 0)),
        ("01000:0100", ALICE),
    ],
)
def test_a_number(user: str, chosen: KernelUser) -> None:
    assert choose(user, ROOT, JOVYAN, OWNER, workspace="rw") == chosen


@pytest.mark.parametrize("user", ["0", "00", "0:0", "0:100"])
@pytest.mark.parametrize("caller", [ROOT, ALICE])
def test_root_needs_to_be_allowed(user: str, caller: KernelUser) -> None:
    with pytest.raises(UserRefused, match=f"user='{user}' is root in the container"):
        choose(user, caller)


def test_root_may_be_allowed() -> None:
    assert choose("0", ROOT, allow_root=True) == ROOT
    assert choose("0:100", ROOT, allow_root=True) == KernelUser(0, 100)


@pytest.mark.parametrize("transport", ["ipc", "tcp", "network"])
def test_only_root_can_hand_over_the_connection_file(transport: str) -> None:
    """F7: the file is for one uid, and only root can give it to another."""
    network = "bridge"
    assert choose("1000:5", ALICE, transport=transport, network=network) == KernelUser(1000, 5)
    for user in ("4242", "image"):
        with pytest.raises(UserRefused, match=r"this process \(uid 1000\)"):
            choose(user, ALICE, JOVYAN, transport=transport, network=network)
    with pytest.raises(UserRefused, match="would run as uid 0"):
        choose("0", ALICE, transport=transport, network=network, allow_root=True)


def test_a_user_in_the_engines_words() -> None:
    assert str(KernelUser(1000, 100)) == "1000:100"
