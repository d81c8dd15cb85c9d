"""The charger protocol, byte by byte, and what is made of answers that are wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.line_frames import Frame, Kind, encode_frame
from edge_agent.errors import MalformedAnswerError
from edge_agent.lights.charger import (
    ChargerVerb,
    ChargeState,
    Controller,
    Slot,
    parse_hello,
    parse_slots,
    write_hello,
    write_slots,
)
from edge_agent.lights.signals import Signal
from protocol.messages import Charging


def test_the_example_of_the_page() -> None:
    """docs/charger-protocol.md, "An example": four slots, the first safe, the second read."""
    request = Frame(
        kind=Kind.REQUEST,
        session=7,
        sequence=2,
        verb=ChargerVerb.SHOW,
        payload=bytes([Signal.SAFE_TO_TAKE, Signal.READING, Signal.EMPTY, Signal.EMPTY]),
    )
    slots = write_slots(
        [(ChargeState.CHARGING, 55), (ChargeState.CHARGING, None)]
        + [(ChargeState.NOTHING_IN_IT, None)] * 2
    )
    answer = Frame(kind=Kind.ANSWER, session=7, sequence=2, verb=ChargerVerb.SHOW, payload=slots)

    assert encode_frame(request).hex(" ") == SHOW_REQUEST
    assert encode_frame(answer).hex(" ") == SHOW_ANSWER
    assert parse_slots(slots, 4) == (
        Slot(charging=Charging.CHARGING, percent=55),
        Slot(charging=Charging.CHARGING, percent=None),
        Slot(charging=None, percent=None),
        Slot(charging=None, percent=None),
    )


def test_hello() -> None:
    """What is written is what is read."""
    controller = Controller(slots=24, model="ACME 24")

    assert parse_hello(write_hello(controller)) == controller


@pytest.mark.parametrize("untrusted", [b"", b"\0acme", b"\x64acme", b"\x01" + b"x" * 33])
def test_a_hello_that_is_none(untrusted: bytes) -> None:
    """No slots, too many, or a name without end."""
    with pytest.raises(MalformedAnswerError):
        parse_hello(untrusted)


@pytest.mark.parametrize("untrusted", [b"", b"\1", b"\1\x37\0", b"\4\x37", b"\1\x65", b"\xff\xff"])
def test_slots_that_are_none(untrusted: bytes) -> None:
    """A wrong length, a state or a percentage that there is not."""
    with pytest.raises(MalformedAnswerError):
        parse_slots(untrusted, 1)


@given(st.binary(max_size=256), st.integers(1, 99))
def test_any_bytes(untrusted: bytes, slots: int) -> None:
    """They are one of the two: an answer about each slot, or refused."""
    try:
        found = parse_slots(untrusted, slots)
    except MalformedAnswerError:
        return
    assert len(found) == slots


SHOW_REQUEST = "00 03 01 01 02 07 03 02 41 03 03 01 01 05 05 73 35 30 00"
SHOW_ANSWER = "00 03 01 02 02 07 03 02 41 05 01 37 01 ff 02 ff 06 ff 8d fe ec 59 00"
