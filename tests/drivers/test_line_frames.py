"""The line protocol's frames, from any bytes in any pieces."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.drivers.line_frames import (
    MAX_PAYLOAD_BYTES,
    MAX_STUFFED_BYTES,
    Frame,
    FrameDecoder,
    Kind,
    encode_frame,
    parse_frame,
    stuff,
    unstuff,
)
from tests.drivers.vectors import LINES

BYTE = st.integers(0, 0xFF)
WORD = st.integers(0, 0xFFFF)
PAYLOADS = st.binary(max_size=MAX_PAYLOAD_BYTES)
FRAMES = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    session=WORD,
    sequence=WORD,
    verb=BYTE,
    result=BYTE,
    payload=PAYLOADS,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Split *data* at all of *cuts*, taken modulo its length."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(content=st.binary(max_size=1200))
@example(content=b"")
@example(content=b"\0")
@example(content=b"\1" * 253)
@example(content=b"\1" * 254)
@example(content=b"\1" * 254 + b"\0")
@example(content=b"\1" * 255)
@example(content=b"\1" * 508)
def test_stuffing_has_no_zero_and_is_undone(content: bytes) -> None:
    """Any bytes can be stuffed, without a zero byte, and come back the same."""
    stuffed = stuff(content)

    assert 0 not in stuffed
    assert unstuff(stuffed) == content
    assert len(stuffed) <= len(content) + len(content) // 254 + 1


@given(frame=FRAMES)
def test_a_frame_comes_back(frame: Frame) -> None:
    """What was written is read."""
    assert FrameDecoder().feed(encode_frame(frame)) == [frame]


@given(frames=st.lists(FRAMES, max_size=4), cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_any_split_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    """How a line cuts the bytes is of no concern."""
    line = b"".join(map(encode_frame, frames))
    decoder = FrameDecoder()

    found = [frame for piece in pieces(line, cuts) for frame in decoder.feed(piece)]

    assert found == frames
    assert decoder.damaged_frames == 0


@pytest.mark.parametrize("cut", range(len(LINES["identify-answer"]) + 1))
def test_every_single_split(cut: int) -> None:
    """Each place to cut one frame in two."""
    line = LINES["identify-answer"]
    decoder = FrameDecoder()

    assert len(decoder.feed(line[:cut]) + decoder.feed(line[cut:])) == 1


@pytest.mark.parametrize("index", range(len(LINES["identify-answer"])))
def test_every_flipped_byte_costs_the_frame_and_no_other(index: int) -> None:
    """A byte changed to any other value never makes another frame, nor harms the one behind."""
    line = LINES["identify-answer"]
    (right,) = FrameDecoder().feed(line)
    for value in range(256):
        changed = line[:index] + bytes([value]) + line[index + 1 :]

        found = FrameDecoder().feed(changed + line)

        assert found[-1] == right
        # The zero byte before and the one behind a frame belong to its neighbours, too.
        assert found == [right] or (found == [right, right] and index == 0) or value == line[index]


@given(noise=st.binary(max_size=3000), frame=FRAMES, cuts=st.lists(st.integers(0, 5000)))
def test_a_frame_behind_noise_is_found(noise: bytes, frame: Frame, cuts: list[int]) -> None:
    """Whatever came before, a whole frame is understood."""
    decoder = FrameDecoder()

    found = [
        one for piece in pieces(noise + encode_frame(frame), cuts) for one in decoder.feed(piece)
    ]

    assert found[-1] == frame


@given(noise=st.lists(st.binary(max_size=2000), max_size=20))
def test_noise_never_fills_the_memory(noise: list[bytes]) -> None:
    """Whatever comes, no more than one frame is held."""
    decoder = FrameDecoder()

    for piece in noise:
        decoder.feed(piece)
        assert len(decoder._held) <= MAX_STUFFED_BYTES  # noqa: SLF001 - the bound is the point


def test_no_zero_ever_never_fills_the_memory() -> None:
    """A megabyte without an end is one damaged frame."""
    decoder = FrameDecoder()

    for _ in range(256):
        assert not decoder.feed(b"\x41" * 4096)
        assert len(decoder._held) <= MAX_STUFFED_BYTES  # noqa: SLF001 - the bound is the point
    assert not decoder.feed(b"\0")
    assert decoder.damaged_frames == 1


@given(untrusted=st.binary(max_size=MAX_STUFFED_BYTES + 10))
def test_any_bytes_are_a_frame_or_none(untrusted: bytes) -> None:
    """Parsing never fails in any other way."""
    parsed = parse_frame(untrusted)

    assert parsed is None or encode_frame(parsed) == b"\0" + untrusted + b"\0"


def test_what_is_too_long_is_not_written() -> None:
    """A payload of 1,025 bytes is our own mistake."""
    with pytest.raises(ValueError, match="1025"):
        encode_frame(Frame(kind=Kind.REQUEST, session=1, sequence=1, verb=1, payload=bytes(1025)))


@pytest.mark.parametrize("session", [-1, 0x10000])
def test_a_number_out_of_range_is_not_written(session: int) -> None:
    """So is a number that does not fit."""
    with pytest.raises(ValueError, match=r"format|range"):
        encode_frame(Frame(kind=Kind.REQUEST, session=session, sequence=1, verb=1))
