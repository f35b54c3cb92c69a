"""`resolve_path`: the host's path of what the kernel names, and nothing outside the mounts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.spec import Mount
from container_provisioner.workspace import resolve


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two mounted folders, ``nb`` and ``data`` in it, beside something secret."""
    for name in ("nb/sub", "nb/data", "nb/~", "data", "secret"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "nb/a.py",
        "nb/sub/b.py",
        "nb/data/hidden",
        "nb/~/a.py",
        "data/d.csv",
        "secret/key",
    ):
        (tmp_path / name).touch()
    (tmp_path / "nb" / "out").symlink_to("../secret/key")
    (tmp_path / "nb" / "outdir").symlink_to(tmp_path / "secret")
    (tmp_path / "nb" / "in").symlink_to("a.py")
    (tmp_path / "nb" / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.py", "nb/a.py"),
        ("sub/b.py", "nb/sub/b.py"),
        ("sub/../a.py", "nb/a.py"),
        ("./a.py", "nb/a.py"),
        ("", "nb"),
        (".", "nb"),
        ("/work/nb/a.py", "nb/a.py"),
        ("//work/nb/a.py", "nb/a.py"),
        ("../nb/a.py", "nb/a.py"),
        ("in", "nb/a.py"),
        ("data/d.csv", "data/d.csv"),
        ("/work/nb/data", "data"),
        ("data/hidden", None),  # the mount on top hides it
        ("missing", None),
        ("sub/missing/../b.py", "nb/sub/b.py"),
        ("out", None),
        ("outdir/key", None),
        ("outdir", None),
        ("loop", None),
        ("..", None),
        ("../secret/key", None),
        ("../../etc/passwd", None),
        ("/etc/passwd", None),
        ("/", None),
        ("~", None),
        ("~/a.py", None),
        ("~root/a.py", None),
        ("a.py\0", None),
        ("n" * 300, None),
        ("a.py/below", None),
        ("\udcff", None),
    ],
)
def test_resolve(tree: Path, path: str, found: str | None) -> None:
    mounts = [
        Mount(source=str(tree / "nb"), target="/work/nb"),
        Mount(source=str(tree / "data"), target="/work/nb/data"),
    ]
    for given_order in (mounts, mounts[::-1]):
        answer = resolve(path, cwd="/work/nb", mounts=given_order)
        assert answer == (None if found is None else str(tree / found))


def test_what_is_outside_looks_the_same_whether_it_exists_or_not(tree: Path) -> None:
    mounts = [Mount(source=str(tree / "nb"), target="/work/nb")]
    for path in ("outdir/key", "outdir/none", "../secret/key", "../secret/none"):
        assert resolve(path, cwd="/work/nb", mounts=mounts) is None


def test_a_neighbour_with_a_longer_name_is_outside(tree: Path) -> None:
    (tree / "nb2").mkdir()
    mounts = [Mount(source=str(tree / "nb"), target="/work/nb")]
    assert resolve("/work/nb2", cwd="/work/nb", mounts=mounts) is None
    assert resolve("a.py", cwd="/work/nb", mounts=[]) is None


@given(st.lists(st.sampled_from(["..", ".", "a", "~", "", "out", "/", "\0", "x y", "é"])))
def test_no_answer_lies_outside_the_mount(parts: list[str]) -> None:
    source = Path(__file__).parent.resolve()
    answer = resolve("/".join(parts), cwd="/w/n", mounts=[Mount(source=str(source), target="/w")])
    assert answer is None or Path(answer).is_relative_to(source)
