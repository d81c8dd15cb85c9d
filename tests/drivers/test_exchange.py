"""One request and what follows it, within bounds."""

import errno
from itertools import islice

import pytest

from edge_agent.drivers.driver import Link, NoPort
from edge_agent.drivers.exchange import MAX_EXCHANGE_BYTES, Exchange
from edge_agent.errors import MalformedAnswerError, NoAnswerError, PortFailedError


class Port:
    """A port that gives the same piece at each read, and takes no time for it."""

    def __init__(self, piece: bytes) -> None:
        self.written = b""
        self.reads = 0
        self._piece = piece

    def read(self, size: int, timeout_s: float) -> bytes:
        del timeout_s
        self.reads += 1
        return self._piece[:size]

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        pass


def stopped_clock() -> float:
    return 0.0


def test_a_flood_is_bounded_without_a_clock() -> None:
    """Even if the clock stood still, so many bytes are enough."""
    port = Port(b"x" * 4096)
    exchange = Exchange(Link(port=port, monotonic_s=stopped_clock, session_number=0))

    with pytest.raises(MalformedAnswerError):
        list(exchange.pieces())
    assert port.reads == MAX_EXCHANGE_BYTES // 4096


def test_throwing_away_is_bounded() -> None:
    """A flood that is there before does not keep a request from being sent."""
    port = Port(b"x" * 4096)

    Exchange(Link(port=port, monotonic_s=stopped_clock, session_number=0)).send(b"request")

    assert port.written == b"request"
    assert port.reads <= 16


def test_a_port_that_comes_back_early_is_asked_again() -> None:
    """Nothing is not the end of the time; the clock decides."""
    times = iter((0.0, 0.0, 1.0, 1.9, 2.0, 2.1))
    port = Port(b"")
    exchange = Exchange(Link(port=port, monotonic_s=lambda: next(times), session_number=0))

    with pytest.raises(NoAnswerError):
        list(exchange.pieces())
    assert port.reads == 3


def test_a_reader_may_stop_at_any_piece() -> None:
    """Whoever has the answer reads no further."""
    port = Port(b"x")
    exchange = Exchange(Link(port=port, monotonic_s=stopped_clock, session_number=0))

    assert list(islice(exchange.pieces(), 3)) == [b"x"] * 3
    assert port.reads == 3


def test_no_port_is_told_so() -> None:
    """A link without a port fails before anything was sent, and again when read."""
    exchange = Exchange(Link(port=NoPort(), monotonic_s=stopped_clock, session_number=0))

    with pytest.raises(PortFailedError) as sending:
        exchange.send(b"x")
    with pytest.raises(PortFailedError) as reading:
        next(exchange.pieces())

    assert (sending.value.request_sent, reading.value.request_sent) == (False, True)
    with pytest.raises(OSError, match="no serial port") as caught:
        NoPort().write(b"x")
    assert caught.value.errno == errno.ENODEV
    NoPort().close()
