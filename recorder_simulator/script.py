"""What a simulated recorder is and how it misbehaves: a TOML file, or flags."""

from datetime import datetime
from enum import Enum, unique
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct

from edge_agent.drivers.driver import Verb
from edge_agent.drivers.user_information import Layout, write_user_information

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Name = Annotated[str, Meta(max_length=32)]


@unique
class FaultKind(Enum):
    """How an answer goes wrong."""

    SILENCE = "silence"  # no answer
    GARBAGE = "garbage"  # noise, then the answer
    HALF_FRAME = "half-frame"  # the first half of the answer
    WRONG_CHECKSUM = "wrong-checksum"  # the answer with one bit wrong
    OTHER_ANSWER = "other-answer"  # the answer to another request
    LATE_ANSWER = "late-answer"  # the answer, after `seconds`
    SLOW_BYTES = "slow-bytes"  # one byte each `seconds`
    FLOOD = "flood"  # noise without end, until it is plugged in anew
    RE_ENUMERATION = "re-enumeration"  # the port goes away, and comes back after `seconds`
    PASSWORD_REFUSED = "password-refused"  # noqa: S105 - no password: locked, and no password is right
    REFUSAL = "refusal"  # understood, and failed
    UNSUPPORTED = "unsupported"  # the recorder lacks the verb
    NOT_READY = "not-ready"  # asks for a moment


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault; it is at the first ``times`` requests for ``verb``, or for any, then over."""

    kind: FaultKind
    verb: Verb | None = None
    times: Annotated[int, Meta(ge=1)] = 1_000_000
    seconds: Seconds = 3.0


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recorder.

    Texts are written in GBK. ``clock`` is what it says when it starts; None is the true time.
    ``serial`` has room for as many bytes as the layout gives it.
    """

    protocol: Literal["line", "socket"] = "line"
    seed: int = 0
    serial: Annotated[str, Meta(min_length=1, max_length=7)] = "0000017"
    type_code: Annotated[str, Meta(pattern="^[ -~]{5}$(?!\n)")] = "BW-01"
    model: Name = "Simulated"
    firmware: Name = "1.0"
    user_number: Annotated[str, Meta(max_length=6)] = "012345"
    user_name: Annotated[str, Meta(max_length=16)] = "王伟"
    unit_number: Annotated[str, Meta(max_length=12)] = "310000000001"
    unit_name: Annotated[str, Meta(max_length=16)] = "第一税务分局"
    layout_bytes: Literal[89, 94] = 89
    clock: Annotated[datetime, Meta(tz=False)] | None = None
    zone: str = "Asia/Shanghai"
    battery_percent: Annotated[int, Meta(ge=0, le=255)] = 80
    width_px: Annotated[int, Meta(ge=0, le=65_535)] = 1920
    height_px: Annotated[int, Meta(ge=0, le=65_535)] = 1080
    wifi_name: Name = ""
    access_point_name: Name = ""
    server: Name = ""
    log: str = "power on\r\n"
    password: str | None = None
    disk_mode_after_s: Seconds = 3.0
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what it could not say later.

        Raises:
            ValueError: A text is no GBK or does not fit, or there is no such zone.
        """
        _ = self.user_information
        told = (self.model, self.firmware, self.log)
        for text in (*told, self.wifi_name, self.access_point_name, self.server):
            text.encode("gbk")
        try:
            ZoneInfo(self.zone)
        except ZoneInfoNotFoundError:
            raise ValueError(f"{self.zone!r} is no time zone") from None

    @property
    def user_information(self) -> bytes:
        """The user information in its layout."""
        layout = next(one for one in Layout if one.size_bytes == self.layout_bytes)
        fields = (
            self.serial.encode("gbk"),
            self.user_number.encode("gbk"),
            self.user_name.encode("gbk"),
            self.unit_number.encode("gbk"),
            self.unit_name.encode("gbk"),
        )
        return write_user_information(layout, fields)
