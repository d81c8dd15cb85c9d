from typing import Final

import msgspec
import pytest

from edge_agent.adapters.control_socket import Snapshot
from edge_agent.adapters.status_text import needs_attention, printable, render_status
from protocol.identifiers import BayNumber, OfficerId, RecorderId
from protocol.messages import BayMessage, BayState, DockStatus
from tests.simulators.sealed_manifests import DOCK, NOW, docking_id

STATUS: Final = DockStatus(dock=DOCK, online=True, since=NOW, agent="edge-agent", bays=2)
EMPTY: Final = BayMessage(dock=DOCK, bay=BayNumber(1), state=BayState.EMPTY, changed_at=NOW)
READING: Final = BayMessage(
    dock=DOCK,
    bay=BayNumber(2),
    state=BayState.INGESTING,
    changed_at=NOW,
    recorder=RecorderId("R-0001"),
    officer=OfficerId("012345"),
    docking_id=docking_id(1),
    files_total=4,
    files_done=1,
    bytes_total=4 << 20,
    bytes_done=1 << 20,
    rate_bytes_s=2 << 20,
    remaining_s=61,
    current_file="DCIM/现场录像.MP4",
)
WELL: Final = Snapshot(dock=STATUS, bays=(EMPTY, READING))


def test_each_bay_has_a_line() -> None:
    """State, recorder, progress, rate and time left of a bay stand on its line."""
    [line] = [line for line in render_status(WELL).splitlines() if line.startswith("2")]

    assert "ingesting" in line
    assert "R-0001" in line
    assert "████░░░░░░░░░░░░  25 %" in line
    assert "1/4" in line
    assert "1.0/4.0" in line
    assert "2.0" in line
    assert "1:01" in line
    assert "现场录像" in line


def test_columns_line_up() -> None:
    """A column begins at one place in all lines, Chinese or not."""
    stranger = msgspec.structs.replace(
        READING, bay=BayNumber(1), recorder=None, model="执法仪", serial="17"
    )
    lines = render_status(msgspec.structs.replace(WELL, bays=(stranger, READING))).splitlines()
    places = {
        sum(2 if ord(one) > 0x2FFF else 1 for one in line[: line.index("█")])
        for line in lines
        if "█" in line
    }

    assert len(places) == 1


def test_a_recorder_with_nothing_new_is_complete() -> None:
    """Where there was nothing to read, a sealed bay is at 100 %, a reading one at 0 %."""
    nothing = msgspec.structs.replace(READING, bytes_total=0, bytes_done=0)
    sealed = msgspec.structs.replace(nothing, state=BayState.SEALED)

    assert "  0 %" in render_status(msgspec.structs.replace(WELL, bays=(nothing,)))
    assert "100 %" in render_status(msgspec.structs.replace(WELL, bays=(sealed,)))


@pytest.mark.parametrize("untrusted", ["\x1b[2J", "a\rb", "\x07", "\u202e", "\x9b31m"])
def test_names_steer_no_terminal(untrusted: str) -> None:
    """What a recorder calls its files cannot move the cursor or turn the text around."""
    bay = msgspec.structs.replace(READING, current_file=untrusted)
    text = render_status(msgspec.structs.replace(WELL, bays=(bay,)))

    assert untrusted not in text
    assert printable(untrusted).isprintable()


@pytest.mark.parametrize(
    "snapshot",
    [
        msgspec.structs.replace(WELL, dock=msgspec.structs.replace(STATUS, online=False)),
        msgspec.structs.replace(WELL, dock=msgspec.structs.replace(STATUS, refused_manifests=1)),
        msgspec.structs.replace(WELL, unhandled_messages=1),
        *(
            msgspec.structs.replace(WELL, bays=(msgspec.structs.replace(EMPTY, state=state),))
            for state in (BayState.ATTENTION, BayState.QUARANTINED)
        ),
        msgspec.structs.replace(
            WELL, bays=(msgspec.structs.replace(EMPTY, problem="E-BAY-102", problem_text="x"),)
        ),
    ],
)
def test_trouble_needs_attention(snapshot: Snapshot) -> None:
    """Anything that a person has to see makes the status a problem, and is in the text."""
    assert needs_attention(snapshot)
    assert render_status(snapshot) != render_status(WELL)


def test_a_dock_at_work_needs_nobody() -> None:
    """Recorders that are being read, and manifests on their way, are no problem."""
    busy = msgspec.structs.replace(STATUS, pending_manifests=3, held_files=2)

    assert not needs_attention(msgspec.structs.replace(WELL, dock=busy))
