"""One request and the bytes that follow it, within a time and a size."""

from collections.abc import Iterator
from typing import Final

from edge_agent.drivers.driver import Link
from edge_agent.errors import MalformedAnswerError, NoAnswerError, PortFailedError

_READ_BYTES: Final = 4096
# A choice: 256 answers of the largest size; a recorder that says more than that says nothing.
MAX_EXCHANGE_BYTES: Final = 256 * 1024
# What may still be on its way from before; more would be a flood, and shows as one later.
_MAX_STALE_BYTES: Final = 64 * 1024


class Exchange:
    """Sends over a link and reads what comes back, turning a port's errors into a driver's."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, request: bytes) -> None:
        """Throw away what came unasked, then write *request*.

        Raises:
            PortFailedError: The port failed; the recorder may have seen a part.
        """
        try:
            stale_bytes = 0
            while stale_bytes < _MAX_STALE_BYTES:
                stale = self._link.port.read(_READ_BYTES, 0.0)
                if not stale:
                    break
                stale_bytes += len(stale)
            self._link.port.write(request)
        except OSError as error:
            raise PortFailedError(_told(error), request_sent=False) from error

    def pieces(self) -> Iterator[bytes]:
        """Yield what comes, in pieces of at least one byte; ends only with an error.

        Raises:
            NoAnswerError: Nothing came in time.
            MalformedAnswerError: Time or size is used up, and whoever reads has no answer yet.
            PortFailedError: The port failed after the request was written.
        """
        deadline_s = self._link.monotonic_s() + self._link.answer_timeout_s
        read_bytes = 0
        while read_bytes < MAX_EXCHANGE_BYTES:
            left_s = deadline_s - self._link.monotonic_s()
            if left_s <= 0:
                break
            # A port may come back early with nothing; the clock decides.
            if piece := self._read(left_s):
                read_bytes += len(piece)
                yield piece
        if not read_bytes:
            raise NoAnswerError(f"no answer in {self._link.answer_timeout_s} s")
        raise MalformedAnswerError(f"{read_bytes} bytes came, and no answer to this request")

    def _read(self, timeout_s: float) -> bytes:
        try:
            return self._link.port.read(_READ_BYTES, timeout_s)
        except OSError as error:
            raise PortFailedError(_told(error), request_sent=True) from error


def _told(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
