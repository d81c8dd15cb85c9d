"""The simulator as a program, on a real pseudo-terminal."""

import contextlib
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.drivers.dialog import Outcome, Surroundings, hold_dialog
from edge_agent.drivers.driver import RecorderDriver
from edge_agent.drivers.line_protocol import DRIVER as LINE
from edge_agent.drivers.socket_frames import DRIVER as SOCKET
from edge_agent.errors import DriverError, PortFailedError
from recorder_simulator.script import FaultKind
from tests.drivers.program import PROGRAM, running, talking
from tests.drivers.talks import SHANGHAI, outcomes

pytestmark = pytest.mark.processes


def around() -> Surroundings:
    return Surroundings(
        utc=lambda: datetime.now(UTC),
        monotonic_s=time.monotonic,
        sleep=lambda _: None,
        zone=SHANGHAI,
        report=lambda _: None,
        note_drift=lambda *_: None,
    )


@pytest.mark.parametrize(("protocol", "driver"), [("line", LINE), ("socket", SOCKET)])
def test_a_recorder_is_docked(protocol: str, driver: RecorderDriver, tmp_path: Path) -> None:
    """The whole way: link, dialog, disk mode, the volume in its bay, and all back at the end."""
    card, bay, link = tmp_path / "card", tmp_path / "bay", tmp_path / "tty"
    (card / "DCIM").mkdir(parents=True)
    places = ("--volume", str(card), "--bay", str(bay), "--link", str(link))
    flags = ("--protocol", protocol, "--clock", "1980-01-01T00:00:00", "--disk-mode-after", "0")

    with running(*places, *flags) as program:
        with talking(link, driver) as session:
            result = hold_dialog(session, around())
        assert program.next_line() == "volume appeared"
        assert (bay / "DCIM").is_dir()
        assert not card.exists()
        assert program.end() == 0
        assert program.next_line() == "port gone"

    assert result.stopped is None
    assert Outcome.FAILED not in outcomes(result).values()
    assert result.drift is not None
    assert result.drift.drift_s is not None
    assert result.drift.drift_s < -1_000_000_000
    assert (card / "DCIM").is_dir()
    assert not bay.exists()
    assert not link.is_symlink()


def test_a_volume_goes_away_on_leave_and_on_eject(tmp_path: Path) -> None:
    """Told by the dock, or taken out by hand; and it comes again."""
    card, bay = tmp_path / "card", tmp_path / "bay"
    card.mkdir()
    places = ("--volume", str(card), "--bay", str(bay))

    with running(*places, "--disk-mode-after", "0") as program:
        with talking(program.path) as session:
            session.enter_disk_mode()
            assert program.next_line() == "volume appeared"
            session.leave_disk_mode()
            assert program.next_line() == "volume gone"
            session.enter_disk_mode()
            assert program.next_line() == "volume appeared"
        program.process.send_signal(signal.SIGUSR1)
        assert program.next_line() == "volume gone"
        assert card.is_dir()


def test_a_port_comes_back_under_the_same_link(tmp_path: Path) -> None:
    """After it was away, a recorder is locked again and answers at the link as before."""
    link = tmp_path / "tty"
    script = tmp_path / "recorder.toml"
    script.write_text(
        'password = "geheim"\n'
        'faults = [{ kind = "re-enumeration", verb = "read-battery", times = 1, seconds = 0.1 }]\n',
        encoding="utf-8",
    )

    with running("--script", str(script), "--link", str(link)) as program:
        with talking(link, password=b"geheim") as session, pytest.raises(PortFailedError) as caught:
            session.read_battery()
        assert caught.value.request_sent
        assert program.next_line() == "port gone"
        assert program.next_line().startswith("port /dev/")
        with talking(link, password=b"geheim") as session:
            session.read_battery()


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_on_a_real_line(kind: FaultKind) -> None:
    """Each fault ends the verb within its time, with an answer or a driver's error."""
    with running("--fault", f"{kind.value}::1") as program:
        with (
            talking(program.path, password=b"x", answer_timeout_s=0.2) as session,
            contextlib.suppress(DriverError),
        ):
            session.read_battery()
        if kind is not FaultKind.RE_ENUMERATION:
            # The next request is understood, even in the middle of a flood.
            with talking(program.path, password=b"x") as session:
                session.identify()
        assert program.end() == 0


def test_a_file_at_the_links_place_is_not_replaced(tmp_path: Path) -> None:
    """A mistyped --link costs nobody a file."""
    file = tmp_path / "notes"
    file.write_bytes(b"kept")

    done = subprocess.run(
        [*PROGRAM, "--link", str(file)], check=False, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert "not a link" in done.stderr
    assert file.read_bytes() == b"kept"


def test_help_has_examples() -> None:
    """Whoever asks for help gets something to type."""
    shown = subprocess.run([*PROGRAM, "--help"], check=True, capture_output=True, text=True).stdout

    assert "examples:" in shown
    assert all(kind.value in shown for kind in FaultKind)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--volume", "card"], 2, "go together"),
        (["--volume", "card", "--bay", "bay"], 2, "no folder"),
        (["--fault", "nonsense"], 2, "nonsense"),
        (["--fault", "silence:nonsense"], 2, "nonsense"),
        (["--fault", "silence::0"], 1, "times"),
        (["--serial", "12345678"], 1, "serial"),
        (["--serial", "한"], 1, "gbk"),
        (["--user-name", "王" * 17], 1, "user_name"),
        (["--zone", "Nowhere/At-all"], 1, "Nowhere"),
        (["--battery", "256"], 1, "battery"),
        (["--script", "missing.toml"], 1, "missing.toml"),
    ],
)
def test_a_wrong_command_line_is_told(
    arguments: list[str], status: int, told: str, tmp_path: Path
) -> None:
    """What is wrong is named, before anything appears."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )

    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
