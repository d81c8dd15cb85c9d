"""What docks say, as the console hears it."""

from datetime import datetime, timedelta
from typing import Any, Final

from protocol.identifiers import AlertId, BayNumber, DockId
from protocol.manifest import EvidenceLevel, Isolation
from protocol.messages import (
    Alert,
    BayMessage,
    BayState,
    DockStatus,
    DoctorReport,
    Examined,
    Health,
)
from tests.simulators.console_data import DOCK, MODEL, OTHER_DOCK, RECORDERS, uuid7

_GB: Final = 1_000_000_000


def status(dock: DockId = DOCK, *, at: datetime, online: bool = True, bays: int = 8) -> DockStatus:
    """Return what a dock says of itself."""
    return DockStatus(
        dock=dock,
        online=online,
        since=at,
        agent="edge-agent 0.1.0",
        bays=bays,
        isolation=Isolation.HOLDING if dock == DOCK else Isolation.NOT_ENFORCED,
        registry_version=7 if dock == DOCK else 6,
        pending_manifests=2 if dock == DOCK else 0,
        held_files=0 if dock == DOCK else 3,
        staging_free_bytes=412 * _GB,
    )


def bay(number: int, state: BayState, *, at: datetime, **facts: Any) -> BayMessage:
    """Return what a bay of the first dock says; recorder *number* is in it."""
    known: dict[str, Any] = {}
    if state is not BayState.EMPTY:
        recorder = f"R-{number:04d}"
        known = {
            "recorder": recorder,
            "model": MODEL,
            "serial": f"A8-{number:04d}",
            "officer": RECORDERS.get(recorder),
            "battery_percent": 40 + 7 * number,
        }
    return BayMessage(
        dock=facts.pop("dock", DOCK),
        bay=BayNumber(number),
        state=state,
        changed_at=at,
        **(known | facts),
    )


def ingesting(number: int, percent: int, *, at: datetime, **facts: Any) -> BayMessage:
    """Return what a bay says while it reads, *percent* of 24 GB done."""
    total = 24 * _GB
    shown: dict[str, Any] = {
        "files_total": 48,
        "files_done": 48 * percent // 100,
        "bytes_total": total,
        "bytes_done": total * percent // 100,
        "uploaded_bytes": total * percent // 200,
        "rate_bytes_s": 31_400_000,
        "remaining_s": (100 - percent) * 8,
        "evidence_level": EvidenceLevel.L2,
    }
    return bay(number, BayState.INGESTING, at=at, **(shown | facts))


def report(dock: DockId = DOCK, *, at: datetime) -> DoctorReport:
    """Return what a dock found when it looked at itself."""
    return DoctorReport(
        dock=dock,
        at=at,
        examined=(
            Examined(
                subject="clock",
                health=Health.BAD,
                seen="off by 93 s",
                remedy="name your network's time server in /etc/systemd/timesyncd.conf;"
                " timedatectl",
            ),
            Examined(subject="<b>broker</b>", health=Health.GOOD, seen="<i>answers</i>"),
        ),
    )


def evening(at: datetime) -> tuple[DockStatus | BayMessage, ...]:
    """Return an evening on two docks: every state of a bay, one dock gone."""
    total = 18_400_000_000
    done = {
        "files_total": 37,
        "files_done": 37,
        "bytes_total": total,
        "bytes_done": total,
        "evidence_level": EvidenceLevel.L2,
    }
    return (
        status(at=at),
        ingesting(1, 62, at=at),
        ingesting(2, 18, at=at, findings=2, battery_percent=9),
        bay(3, BayState.SEALED, at=at, uploaded_bytes=total * 7 // 10, **done),
        bay(4, BayState.RELEASABLE, at=at, uploaded_bytes=total, **done),
        bay(5, BayState.IDENTIFYING, at=at),
        bay(
            6,
            BayState.QUARANTINED,
            at=at,
            recorder=None,
            officer=None,
            model="DSJ-V2",
            serial="V2-88231907",
            battery_percent=None,
            problem="F-ADM-008",
            problem_text="the recorder is not in the registry",
        ),
        bay(
            7,
            BayState.ATTENTION,
            at=at,
            recorder="R-0006",
            officer="012306",
            problem="F-ING-003",
            problem_text="the recorder left",
            findings=1,
            **(done | {"files_done": 12, "bytes_done": total // 3}),
        ),
        bay(8, BayState.EMPTY, at=at),
        status(OTHER_DOCK, at=at - timedelta(hours=3), online=False, bays=4),
        bay(
            1,
            BayState.RELEASABLE,
            at=at - timedelta(hours=4),
            dock=OTHER_DOCK,
            uploaded_bytes=total,
            **done,
        ),
        bay(2, BayState.EMPTY, at=at - timedelta(hours=4), dock=OTHER_DOCK),
        bay(3, BayState.EMPTY, at=at - timedelta(hours=4), dock=OTHER_DOCK),
    )


def alert(number: int, *, at: datetime, code: str = "F-ADM-008") -> Alert:
    """Return an alert as a dock sends it."""
    return Alert(
        alert_id=AlertId(uuid7(7, number)),
        dock=DOCK,
        code=code,
        text="as the dock says it",
        raised_at=at,
        bay=BayNumber(6),
    )
