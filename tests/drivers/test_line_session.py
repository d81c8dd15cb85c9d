"""The line protocol's driver: which answer it takes, and what it makes of any."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.driver import (
    MAX_LOG_BYTES,
    DevicePassword,
    Link,
    RecorderLog,
    RecorderSession,
    Unsupported,
    Verb,
)
from edge_agent.drivers.line_frames import (
    MAX_PAYLOAD_BYTES,
    Frame,
    FrameDecoder,
    Kind,
    encode_frame,
)
from edge_agent.drivers.line_messages import (
    LineVerb,
    Result,
    parse_battery,
    parse_challenge,
    parse_clock,
    parse_identity,
    parse_log_chunk,
    parse_network_settings,
    parse_resolution,
    write_clock,
    write_log_chunk,
)
from edge_agent.drivers.line_protocol import LOG_TIMEOUT_S, LineSession
from edge_agent.drivers.user_information import parse_user_information
from edge_agent.errors import (
    DriverError,
    MalformedAnswerError,
    NoAnswerError,
    PasswordRefusedError,
    RecorderRefusedError,
)
from recorder_simulator.port import SimulatedTime
from recorder_simulator.script import Script
from tests.drivers.talks import Fault, FaultKind, Talk, faulty

PARSERS: list[Callable[[bytes], object]] = [
    parse_battery,
    parse_challenge,
    parse_clock,
    parse_identity,
    parse_log_chunk,
    parse_network_settings,
    parse_resolution,
    parse_user_information,
]


class Answering:
    """A port behind which every request gets the same kind of answer."""

    def __init__(self, answer: Callable[[Frame], bytes]) -> None:
        self.requests: list[Frame] = []
        self._answer = answer
        self._waiting = b""
        self._decoder = FrameDecoder()

    def read(self, size: int, timeout_s: float) -> bytes:
        del timeout_s
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data

    def write(self, data: bytes) -> None:
        for request in self._decoder.feed(data):
            self.requests.append(request)
            self._waiting += self._answer(request)

    def close(self) -> None:
        pass


class Ticking:
    """A clock that goes on a little whenever it is looked at."""

    def __init__(self, step_s: float = 0.01) -> None:
        self.now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def session_with(answer: Callable[[Frame], bytes], *, password: bytes | None = None) -> LineSession:
    return LineSession(
        Link(
            port=Answering(answer),
            monotonic_s=Ticking(),
            session_number=7,
            password=None if password is None else DevicePassword(password),
        )
    )


def answering(result: int, payload: bytes = b"") -> Callable[[Frame], bytes]:
    return lambda request: encode_frame(
        replace(request, kind=Kind.ANSWER, result=result, payload=payload)
    )


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(untrusted=st.binary(max_size=MAX_PAYLOAD_BYTES))
def test_any_payload_is_a_value_or_malformed(
    parse: Callable[[bytes], object], untrusted: bytes
) -> None:
    """No payload makes a parser fail in any other way."""
    with contextlib.suppress(MalformedAnswerError):
        parse(untrusted)


@given(local=st.datetimes())
def test_a_clock_comes_back(local: datetime) -> None:
    """What is set is what is read, but for parts of a second."""
    assert parse_clock(write_clock(local)).local == local.replace(microsecond=0)


@pytest.mark.parametrize("text", ["１２", "²³", "-1"])
def test_only_plain_digits_are_a_clock(text: str) -> None:
    """Digits of other scripts, and signs, are none."""
    with pytest.raises(MalformedAnswerError):
        parse_clock((text.encode() * 14)[:14])


@pytest.mark.parametrize(
    "changed",
    [{"sequence": 2}, {"session": 8}, {"verb": LineVerb.READ_CLOCK}, {"kind": Kind.REQUEST}],
    ids=lambda changed: next(iter(changed)),
)
def test_an_answer_to_another_request_is_none(changed: dict[str, int]) -> None:
    """Neither a late answer, nor one of an earlier conversation, nor an echo."""

    def answer(request: Frame) -> bytes:
        right = replace(request, kind=Kind.ANSWER, result=Result.DONE, payload=b"\x05")
        return encode_frame(replace(right, **changed))  # type: ignore[arg-type]  # a table's row

    with pytest.raises(MalformedAnswerError):
        session_with(answer).read_battery()


def test_a_late_answer_is_never_taken_for_the_next() -> None:
    """The answer that comes while another is waited for is passed over."""
    talk = faulty(Fault(kind=FaultKind.LATE_ANSWER, verb=Verb.READ_BATTERY, times=1, seconds=3.0))
    session = talk.open()
    with pytest.raises(NoAnswerError):
        session.read_battery()
    clock = session.read_clock()

    assert not isinstance(clock, Unsupported)
    assert clock.local == datetime(2026, 11, 21, 9, 30, 2)  # noqa: DTZ001 - no zone


def test_another_conversation_has_other_answers() -> None:
    """A new conversation with the same recorder starts where no old answer fits."""
    talk = faulty(Fault(kind=FaultKind.LATE_ANSWER, verb=Verb.READ_BATTERY, times=1, seconds=2.5))
    with pytest.raises(NoAnswerError):
        talk.open().read_battery()
    talk.session_number = 8

    assert not isinstance(talk.open().read_battery(), Unsupported)


@given(result=st.integers(0, 255))
def test_any_result_is_told(result: int) -> None:
    """Success, none, or a driver's error: no number does anything else."""
    session = session_with(answering(result))

    if result in {Result.DISK_MODE_ENTERED, Result.UNSUPPORTED}:
        told = session.enter_disk_mode()
        assert (told is None) is (result == Result.DISK_MODE_ENTERED)
        return
    with pytest.raises(DriverError) as caught:
        session.enter_disk_mode()
    if isinstance(caught.value, RecorderRefusedError):
        assert caught.value.result == result
    else:
        assert result in {Result.LOCKED, Result.NOT_READY}


def test_a_done_that_says_something_is_malformed() -> None:
    """Where no payload belongs, none is passed over in silence."""
    with pytest.raises(MalformedAnswerError):
        session_with(answering(Result.DISK_MODE_ENTERED, b"?")).enter_disk_mode()


def test_a_refused_password_is_not_tried_again() -> None:
    """One wrong proof is all that a recorder gets in one conversation."""

    def answer(request: Frame) -> bytes:
        results = {LineVerb.READ_CHALLENGE: Result.DONE, LineVerb.UNLOCK: Result.PASSWORD_WRONG}
        result = results.get(LineVerb(request.verb), Result.LOCKED)
        payload = bytes(32) if request.verb == LineVerb.READ_CHALLENGE else b""
        return answering(result, payload)(request)

    port = Answering(answer)
    session = LineSession(
        Link(
            port=port,
            monotonic_s=Ticking(),
            session_number=7,
            password=DevicePassword(b"wrong"),
        )
    )

    for _ in range(3):
        with pytest.raises(PasswordRefusedError):
            session.read_battery()
    assert [request.verb for request in port.requests].count(LineVerb.UNLOCK) == 1


def test_a_recorder_that_stays_locked_is_refused() -> None:
    """One that takes the password and is locked as before is no riddle to be tried for ever."""

    def answer(request: Frame) -> bytes:
        if request.verb == LineVerb.READ_CHALLENGE:
            return answering(Result.DONE, bytes(32))(request)
        is_unlock = request.verb == LineVerb.UNLOCK
        return answering(Result.PASSWORD_RIGHT if is_unlock else Result.LOCKED)(request)

    with pytest.raises(RecorderRefusedError, match="LOCKED"):
        session_with(answer, password=b"right").read_battery()


def log_of(session: RecorderSession) -> RecorderLog:
    log = session.export_log()
    assert isinstance(log, RecorderLog)
    return log


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_a_log_is_taken_whole(size: int) -> None:
    """Whatever its size, every byte is there, in its place."""
    text = ("0123456789" * 500)[:size]

    log = log_of(Talk(script=Script(log=text)).open())

    assert log == RecorderLog(content=text.encode(), is_complete=True)


def test_an_endless_log_is_cut() -> None:
    """A log that is longer than the dock takes is told to be incomplete."""
    endless = b"x" * 1000

    def answer(request: Frame) -> bytes:
        return answering(Result.DONE, b"\xff\xff\xff\xff" + endless)(request)

    log = log_of(session_with(answer))

    assert not log.is_complete
    assert len(log.content) <= MAX_LOG_BYTES
    # It ends by size or by time, whichever comes first.
    assert log.content


def test_a_log_that_stops_coming_is_incomplete() -> None:
    """A recorder that promises more and has no more is not asked again."""
    port = Answering(answering(Result.DONE, b"\0\0\1\0"))
    session = LineSession(Link(port=port, monotonic_s=Ticking(), session_number=7))

    assert log_of(session) == RecorderLog(content=b"", is_complete=False)
    assert len(port.requests) == 1


def test_a_log_that_trickles_ends() -> None:
    """A byte at a time is taken for so long and no longer."""
    port = Answering(answering(Result.DONE, b"\0\x10\0\0x"))
    clock = Ticking(step_s=0.5)
    session = LineSession(Link(port=port, monotonic_s=clock, session_number=7))

    log = log_of(session)

    assert not log.is_complete
    assert 0 < len(log.content) <= LOG_TIMEOUT_S / 0.5


def test_a_log_longer_than_it_says_is_incomplete() -> None:
    """What contradicts itself is not called whole."""
    log = log_of(session_with(answering(Result.DONE, b"\0\0\0\1ab")))

    assert log == RecorderLog(content=b"ab", is_complete=False)


@pytest.mark.parametrize("untrusted", [b"", b"\0\0\0", b"\0\0\0\0\0"])
def test_a_request_for_log_that_is_none(untrusted: bytes) -> None:
    """The recorder's side refuses what has no offset."""
    assert write_log_chunk(b"log", untrusted) is None


def test_a_flood_ends() -> None:
    """Noise without end costs one answer's time."""
    talk = faulty(Fault(kind=FaultKind.FLOOD))

    with pytest.raises(MalformedAnswerError):
        talk.open().identify()
    assert talk.time.monotonic_s() < 3


@pytest.mark.parametrize(("seconds", "is_in_time"), [(0.01, True), (1.0, False)])
def test_slow_bytes_count_until_the_time_is_up(seconds: float, is_in_time: bool) -> None:  # noqa: FBT001 - a table's column
    """An answer has so long, however often a byte comes."""
    talk = faulty(Fault(kind=FaultKind.SLOW_BYTES, seconds=seconds))

    if is_in_time:
        talk.open().identify()
    else:
        with pytest.raises(MalformedAnswerError):
            talk.open().identify()
        assert talk.time.monotonic_s() < 3


def test_a_password_shows_nowhere() -> None:
    """Neither by printing, nor by formatting, nor by pickling."""
    password = DevicePassword(b"geheim")
    link = Link(
        port=Answering(lambda _: b""),
        monotonic_s=SimulatedTime().monotonic_s,
        session_number=1,
        password=password,
    )

    assert "geheim" not in f"{password} {password!r} {link} {[password]}"
    with pytest.raises(TypeError):
        password.__reduce__()
    assert password.reveal() == b"geheim"
