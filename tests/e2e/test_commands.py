"""Commands from the archive's machine to a dock and back, by real programs and a real broker."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.programs import ours
from demo.site import Registered, Site, SiteOptions
from edge_agent.adapters.recorder_logs import RecorderLogs
from edge_agent.drivers.driver import RecorderLog
from protocol.identifiers import BayNumber
from tests.drivers.program import running
from tests.hardware.recorders import recorder

pytestmark = pytest.mark.processes


def _command(site: Site, *words: str, dock: str = "dock-01") -> "subprocess.CompletedProcess[str]":
    config = ("--config", site.config("server"))
    return subprocess.run(
        ours("server-agent", "command", "--dock", dock, *config, *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_a_dock_does_what_the_archive_asks(tmp_path: Path) -> None:
    """It shows a bay, tells how it is, tries a recorder again, and starts anew."""
    stranger = recorder(tmp_path / "stranger", 7)
    known = Registered(
        recorder_id="R-0001",
        make="DSJ",
        model="DSJ-A8",
        serial="0000001",
        officer="012001",
        officer_name="张伟",
    )
    site = Site(tmp_path / "site", [known], SiteOptions(bays=2, has_charger=True))
    site.prepare()
    site.charger.parent.mkdir()
    link = ("--link", str(site.charger), "--slots", "2")
    with running(*link, program=tuple(ours("charger-simulator"))) as charger:
        try:
            site.start_archive()
            site.start_dock()
            site.bay(1).parent.mkdir(exist_ok=True)
            shutil.copytree(stranger.folder, site.root / "card")
            (site.root / "card").rename(site.bay(1))
            for line in iter(charger.next_line, "slot 1 attention"):
                assert "safe" not in line

            shown = _command(site, "identify", "--bay", "2", "--seconds", "600")
            lit = [charger.next_line()]
            while lit[-1] != "slot 2 identify":
                lit.append(charger.next_line())
            doctor = _command(site, "doctor")
            logs = _command(site, "collect-logs")
            kept = RecorderLogs(site.journal.parent / "recorder-logs").keep(
                RecorderLog(content="开机\r\n".encode("gbk"), is_complete=True),
                bay=BayNumber(1),
                serial="0000001",
                at=datetime.now(UTC),
            )
            of_recorder = _command(site, "collect-logs", "--bay", "1")
            of_none = _command(site, "collect-logs", "--bay", "2")
            again = _command(site, "rescan")
            nothing = _command(site, "rescan", "--bay", "2")
            unknown = _command(site, "doctor", dock="dock-99")
            restarted = _command(site, "restart")
            site.edge.wait_until_ended()
        finally:
            site.stop()

    assert (shown.returncode, doctor.returncode, logs.returncode) == (0, 0, 0)
    assert "good broker" in doctor.stdout
    assert '"event": "ready"' in logs.stdout
    assert of_recorder.stdout.split() == [kept.name, "开机"]
    assert (of_none.returncode, "E-CMD-104" in of_none.stderr) == (1, True)
    assert (again.returncode, again.stdout) == (0, "tried again: 1\n")
    assert (nothing.returncode, "E-CMD-104" in nothing.stderr) == (1, True)
    assert (unknown.returncode, "E-CMD-201" in unknown.stderr) == (1, True)
    assert (restarted.returncode, restarted.stdout) == (0, "it stops now and is started again\n")
