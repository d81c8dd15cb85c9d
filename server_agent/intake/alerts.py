"""Alerts as docks send them: from untrusted bytes to an alert, or to a reason to keep the bytes."""

from protocol import strict_json
from protocol.errors import ProtocolError, TooLargeError
from protocol.findings import MAX_DETAIL_CHARACTERS, FindingCode
from protocol.identifiers import DockId
from protocol.messages import MAX_TELEMETRY_BYTES, Alert
from server_agent.intake.checks import KnownSite, Refused, has_utc


def read_alert(dock: DockId, untrusted: bytes, *, site: KnownSite) -> Alert | Refused:
    """Return a dock's alert, or why it is none.

    Args:
        dock: Whose topic it came on.
        untrusted: The message.
        site: The registry.

    Returns:
        Refused with the code of the admission check that has the same question.
    """
    if dock not in site.docks:
        return _refused(FindingCode.UNKNOWN_DOCK, f"dock {dock!r} is not registered")
    try:
        alert = strict_json.parse(untrusted, Alert, max_bytes=MAX_TELEMETRY_BYTES)
    except TooLargeError as error:
        return _refused(FindingCode.MESSAGE_TOO_LARGE, str(error))
    except (ProtocolError, ValueError) as error:
        return _refused(FindingCode.STATEMENT_UNREADABLE, str(error))
    if alert.dock != dock:
        return _refused(FindingCode.OTHER_DOCK, f"an alert of dock {alert.dock!r} on {dock!r}")
    # PostgreSQL has no text with a NUL.
    if b"\\u0000" in untrusted or not has_utc(alert.raised_at):
        return _refused(FindingCode.STATEMENT_UNREADABLE, "a text or time that cannot be kept")
    return alert


def _refused(code: FindingCode, detail: str) -> Refused:
    return Refused(code=code, detail=detail[:MAX_DETAIL_CHARACTERS])
