from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.adapters import recorder_logs
from edge_agent.adapters.recorder_logs import RecorderLogs
from edge_agent.drivers.driver import RecorderLog
from protocol.identifiers import BayNumber

AT = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
BAY = BayNumber(3)


def log(content: bytes = b"power on\r\n", *, is_complete: bool = True) -> RecorderLog:
    return RecorderLog(content=content, is_complete=is_complete)


def test_a_log_is_kept_byte_for_byte(tmp_path: Path) -> None:
    """Under its time, bay and recorder; the newest of a bay is found again."""
    logs = RecorderLogs(tmp_path / "logs")
    logs.keep(log(b"first"), bay=BAY, serial="0000017", at=AT)
    logs.keep(log(b"\xff\x00"), bay=BAY, serial="0000017", at=AT + timedelta(seconds=1))
    logs.keep(log(b"other bay"), bay=BayNumber(13), serial="0000018", at=AT + timedelta(hours=1))

    newest = logs.newest(BAY)

    assert newest is not None
    assert newest.name == "20261127T080001000000Z-bay-03-0000017.log"
    assert newest.read_bytes() == b"\xff\x00"
    assert logs.newest(BayNumber(1)) is None


@pytest.mark.parametrize("serial", ["../../etc/passwd", "", "a" * 300, "\0", "张伟", "."])
def test_a_hostile_serial_number_names_no_other_file(tmp_path: Path, serial: str) -> None:
    """What a recorder says of itself leads nowhere."""
    path = RecorderLogs(tmp_path / "logs").keep(log(), bay=BAY, serial=serial, at=AT)

    assert path.parent == tmp_path / "logs"
    assert path.resolve() == path
    assert len(path.name) < 100


def test_one_that_stopped_coming_says_so(tmp_path: Path) -> None:
    """In its name."""
    path = RecorderLogs(tmp_path).keep(log(is_complete=False), bay=BAY, serial="17", at=AT)

    assert path.name.endswith("-17.part.log")


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does not grow for ever, and nothing else in it is touched."""
    monkeypatch.setattr(recorder_logs, "MOST_LOGS", 3)
    (tmp_path / "notes.log").write_bytes(b"a technician's")
    logs = RecorderLogs(tmp_path)
    for second in range(5):
        logs.keep(log(), bay=BAY, serial="17", at=AT + timedelta(seconds=second))

    kept = sorted(path.name[:15] for path in tmp_path.glob("2026*"))
    assert kept == ["20261127T080002", "20261127T080003", "20261127T080004"]
    assert (tmp_path / "notes.log").exists()
