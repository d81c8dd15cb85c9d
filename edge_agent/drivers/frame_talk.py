"""Requests and answers in frames, one at a time; docs/recorder-protocol.md is their text."""

from typing import Final

from edge_agent.drivers.driver import Link
from edge_agent.drivers.exchange import Exchange
from edge_agent.drivers.line_frames import Frame, FrameDecoder, Kind, encode_frame

_SEQUENCES: Final = 1 << 16


class FrameTalk:
    """One conversation with whatever speaks in our frames."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._exchange = Exchange(link)
        self._sequence = 0

    def ask(self, verb: int, payload: bytes = b"") -> Frame:
        """Send a request and return the answer to it, whatever else comes in between.

        Raises:
            DriverError: There is none: see `Exchange`.
        """
        self._sequence = (self._sequence + 1) % _SEQUENCES
        request = Frame(
            kind=Kind.REQUEST,
            session=self._link.session_number,
            sequence=self._sequence,
            verb=verb,
            payload=payload,
        )
        self._exchange.send(encode_frame(request))
        decoder = FrameDecoder()
        for piece in self._exchange.pieces():
            for frame in decoder.feed(piece):
                if _answers(frame, request):
                    return frame
        raise AssertionError("pieces ends only with an error")


def _answers(frame: Frame, request: Frame) -> bool:
    told = (frame.kind, frame.session, frame.sequence, frame.verb)
    return told == (Kind.ANSWER, request.session, request.sequence, request.verb)
