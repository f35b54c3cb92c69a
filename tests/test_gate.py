"""What is counted of a connection that speaks ZMTP 3, in whatever pieces it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_provisioner.sandbox.gate import Frames, TooLarge

GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".ljust(64, b"\0")
MORE, LONG, COMMAND = 1, 2, 4
PART = 256  # what each part counts besides its content


def frame(content: bytes, flags: int = 0) -> bytes:
    if flags & LONG:
        return bytes([flags]) + len(content).to_bytes(8, "big") + content
    return bytes([flags, len(content)]) + content


def message(*sizes: int) -> bytes:
    """Parts of these sizes."""
    flags = [MORE] * (len(sizes) - 1) + [0]
    return b"".join(
        frame(b"x" * size, flag | (LONG if size > 255 else 0))
        for size, flag in zip(sizes, flags, strict=True)
    )


@given(st.lists(st.integers(1, 200), max_size=30))
def test_what_is_within_the_limit_passes_in_any_pieces(cuts: list[int]):
    stream = GREETING + frame(b"READY", COMMAND) + message(700, 0, 3) * 5 + message(1000 - PART)
    frames, at = Frames(3 * PART + 703), 0
    for cut in [*cuts, len(stream)]:
        frames.feed(stream[at : at + cut])
        at += cut


@pytest.mark.parametrize(
    "stream",
    [
        GREETING + message(1001 - PART),
        GREETING + message(0, 0, 0, 0),
        GREETING + message(1) + message(200, 200, 200),
        GREETING + bytes([LONG]) + (2**63 - 1).to_bytes(8, "big"),
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x01".ljust(64, b"\0"),  # ZMTP 2, whose frames are others
        b"HTTP/1.1 200 OK\r\n".ljust(64, b"x"),
    ],
    ids=[
        "one part",
        "empty parts",
        "second message",
        "endless",
        "older version",
        "another protocol",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_more_is_refused_before_it_is_there(stream: bytes, step: int):
    frames = Frames(1000)

    def feed() -> None:
        for at in range(0, len(stream), step):
            frames.feed(stream[at : at + step])

    with pytest.raises(TooLarge):
        feed()
