"""The socket-framed protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.driver import Unsupported, Verb
from edge_agent.drivers.line_messages import Result
from edge_agent.drivers.socket_frames import (
    MAX_BODY_BYTES,
    BodyDecoder,
    SocketVerb,
    encode_body,
    encode_command,
    encode_data,
    parse_data,
)
from edge_agent.errors import DriverError, MalformedAnswerError
from recorder_simulator.script import Script
from tests.drivers.talks import Fault, FaultKind, Talk

ANSWER = encode_data(SocketVerb.READ_BATTERY, Result.DONE, b"080")
BODIES = st.builds(
    encode_data,
    st.sampled_from(SocketVerb),
    st.integers(0, 99),
    st.binary(max_size=100),
)


def test_frames_are_as_the_page_says() -> None:
    """Length, tag, four letters, two digits, payload."""
    assert encode_command(SocketVerb.READ_CLOCK) == b"\0\0\0\x0aE12CMDTIMR"
    assert ANSWER == b"\0\0\0\x0fE12DATBATT16080"


@given(lines=st.lists(BODIES, max_size=5), cut=st.integers(0, 1000))
def test_any_split_gives_the_same_bodies(lines: list[bytes], cut: int) -> None:
    """How a line cuts the bytes is of no concern."""
    line = b"".join(lines)
    decoder = BodyDecoder()

    found = decoder.feed(line[:cut]) + decoder.feed(line[cut:])

    assert found == [one[4:] for one in lines]


@pytest.mark.parametrize("cut", range(len(ANSWER) + 1))
def test_every_single_byte_split(cut: int) -> None:
    """Each place to cut one frame in two, and a byte at a time."""
    decoder = BodyDecoder()

    assert decoder.feed(ANSWER[:cut]) + decoder.feed(ANSWER[cut:]) == [ANSWER[4:]]
    assert [body for byte in ANSWER for body in decoder.feed(bytes([byte]))] == [ANSWER[4:]]


@given(noise=st.binary(max_size=2000).filter(lambda noise: b"E12" not in noise))
def test_a_frame_behind_noise_is_found(noise: bytes) -> None:
    """Noise that does not look like a frame costs nothing."""
    found = BodyDecoder().feed(noise + ANSWER + ANSWER)

    assert found[-1] == ANSWER[4:]


@given(noise=st.lists(st.binary(max_size=2000) | BODIES, max_size=20))
def test_noise_never_fills_the_memory(noise: list[bytes]) -> None:
    """Whatever comes, no more than one body and a piece of it is held."""
    decoder = BodyDecoder()

    for piece in noise:
        decoder.feed(piece)
        assert len(decoder._held) <= MAX_BODY_BYTES + 4  # noqa: SLF001 - the bound is the point


@given(untrusted=st.binary(max_size=MAX_BODY_BYTES))
def test_any_body_is_an_answer_or_none(untrusted: bytes) -> None:
    """Parsing never fails."""
    parse_data(untrusted)
    parse_data(b"E12DAT" + untrusted)


@pytest.mark.parametrize("size", [0, 9, MAX_BODY_BYTES + 1])
def test_a_body_of_another_size_is_not_written(size: int) -> None:
    """Too short for a tag, or too long to be taken."""
    with pytest.raises(ValueError, match=str(size)):
        encode_body(bytes(size))


@pytest.mark.parametrize("index", range(len(ANSWER)))
def test_a_flipped_byte_is_an_error_or_another_value(index: int) -> None:
    """Without a checksum a wrong digit is taken; nothing worse happens."""
    for value in range(256):
        changed = ANSWER[:index] + bytes([value]) + ANSWER[index + 1 :]
        for body in BodyDecoder().feed(changed):
            parse_data(body)


@pytest.mark.parametrize("percent", [101, 255])
def test_a_charge_beyond_100_is_malformed(percent: int) -> None:
    """A number that cannot be is not told on."""
    with pytest.raises(MalformedAnswerError):
        Talk(script=Script(protocol="socket", battery_percent=percent)).open().read_battery()


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in FaultKind
        if kind not in {FaultKind.PASSWORD_REFUSED, FaultKind.GARBAGE, FaultKind.UNSUPPORTED}
    ],
)
def test_every_fault_is_a_drivers_error(kind: FaultKind) -> None:
    """Nothing that goes wrong on the line is taken for an answer."""
    fault = Fault(kind=kind, verb=Verb.READ_USER_INFORMATION)
    session = Talk(script=Script(protocol="socket", faults=(fault,))).open()

    if kind is FaultKind.WRONG_CHECKSUM:
        session.read_user_information()  # there is none that could be wrong
        return
    with pytest.raises(DriverError):
        session.read_user_information()


def test_what_came_before_is_thrown_away() -> None:
    """A late answer that is there when the next request goes out is not taken for its answer."""
    fault = Fault(kind=FaultKind.LATE_ANSWER, verb=Verb.READ_CLOCK, times=1, seconds=2.5)
    talk = Talk(script=Script(protocol="socket", faults=(fault,)))
    session = talk.open()
    with pytest.raises(DriverError):
        session.read_clock()
    talk.time.sleep(10)

    reading = session.read_clock()

    assert not isinstance(reading, Unsupported)
    assert reading.local is not None
    assert reading.local.second == 12


def test_an_answer_of_another_name_is_passed_over() -> None:
    """What was asked before and is answered now is not what is asked now."""
    faults = (
        Fault(kind=FaultKind.LATE_ANSWER, verb=Verb.READ_BATTERY, times=1, seconds=2.5),
        Fault(kind=FaultKind.LATE_ANSWER, verb=Verb.READ_CLOCK, times=1, seconds=1.0),
    )
    session = Talk(script=Script(protocol="socket", faults=faults)).open()
    with pytest.raises(DriverError):
        session.read_battery()

    reading = session.read_clock()

    assert not isinstance(reading, Unsupported)
    assert reading.local is not None


def test_no_resolution_of_nothing() -> None:
    """A picture without width is none."""
    with pytest.raises(MalformedAnswerError):
        Talk(script=Script(protocol="socket", width_px=0)).open().read_resolution()
