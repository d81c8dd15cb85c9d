"""What a recorder told over its serial port before it became a disk, and what to say of that."""

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta

from protocol.findings import MAX_DETAIL_CHARACTERS, Finding, FindingCode
from protocol.identifiers import OfficerId
from protocol.manifest import RecorderFacts, RecorderTime
from protocol.strict_json import Message

# Clocks of recorders are off by seconds a week. More is worth a word, and is corrected in dates.
WORTH_SAYING_MS: Final = 30_000
_MAX_TEXT: Final = 256

Text = Annotated[str, Meta(max_length=_MAX_TEXT)]


class Told(Message, frozen=True, kw_only=True):
    """What one talk came to; None and empty is what was not told.

    Attributes:
        driver: Which protocol it was held in.
        serial: As the recorder said; printable.
        officer: Likewise.
        recorder_time: Its clock when it was read, before it was set.
        drift_ms: How far that was ahead of the dock's clock; negative is behind.
        is_clock_set: Whether the recorder took the dock's time, and kept it.
        networks: Settings by which it would reach a network; on one that obeys the rules none.
        failed: Steps that failed, each with its code.
    """

    driver: Text
    serial: Text | None = None
    officer: Text | None = None
    recorder_time: RecorderTime | None = None
    drift_ms: int | None = None
    is_clock_set: bool = False
    battery_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    networks: tuple[Text, ...] = ()
    failed: tuple[Text, ...] = ()


def told_findings(
    told: Told, recorder: RecorderFacts, officer: OfficerId | None
) -> tuple[Finding, ...]:
    """Return what there is to say about a talk, beside what the volume says.

    Args:
        told: In the talk.
        recorder: As its volume names it.
        officer: Of the docking.
    """
    return tuple(_findings(told, recorder, officer))


def _findings(told: Told, recorder: RecorderFacts, officer: OfficerId | None) -> Iterator[Finding]:
    if told.serial is not None and told.serial != recorder.serial:
        detail = f"{told.serial!r} over the serial port, {recorder.serial!r} on the volume"
        yield _finding(FindingCode.SERIAL_DIFFERS, detail)
    if told.officer and officer is not None and told.officer != officer:
        detail = f"{told.officer!r} over the serial port, {officer!r} by volume and registry"
        yield _finding(FindingCode.OFFICER_DIFFERS, detail)
    if told.drift_ms is not None and abs(told.drift_ms) >= WORTH_SAYING_MS:
        way = "ahead of" if told.drift_ms > 0 else "behind"
        done = "it was set" if told.is_clock_set else "it was not set"
        detail = f"{abs(told.drift_ms) // 1000} s {way} the dock's clock; {done}"
        yield _finding(FindingCode.CLOCK_WAS_OFF, detail)
    if told.networks:
        yield _finding(FindingCode.NETWORK_SETTINGS, "; ".join(told.networks))
    if told.failed:
        yield _finding(FindingCode.DIALOG_INCOMPLETE, "; ".join(told.failed))


def _finding(code: FindingCode, detail: str) -> Finding:
    return Finding(code=code, detail=detail[:MAX_DETAIL_CHARACTERS])
