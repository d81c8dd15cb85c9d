"""`edge-agent doctor` on a dock that was laid out, and on a site that runs."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.site import Site, SiteOptions
from edge_agent.adapters import examining
from edge_agent.adapters.examining import Examination
from edge_agent.cli import main
from edge_agent.config import load_config
from edge_agent.doctor.verdicts import Verdict
from protocol.messages import Health
from tests.simulators.edge_site import EdgeSite, lay_out_edge_site


@pytest.fixture
def site(tmp_path: Path) -> EdgeSite:
    return lay_out_edge_site(tmp_path)


def examine(site: EdgeSite, *, patience_s: float = 20.0) -> dict[str, Verdict]:
    looking = Examination(
        config=load_config(site.config), clock=lambda: datetime.now(UTC), patience_s=patience_s
    )
    return {one.subject: one for one in looking.verdicts()}


def test_what_does_not_answer_is_bad_and_nothing_else(site: EdgeSite) -> None:
    """Without broker, archive and agent the rest is looked at all the same."""
    found = examine(site)

    bad = {subject for subject, one in found.items() if one.health is Health.BAD}
    assert {"broker", "archive", "agent"} <= bad
    assert not {"configuration", "staging disk", "journal"} & bad
    assert all(found[subject].remedy for subject in bad)


def test_a_wrong_configuration_is_told_line_by_line(site: EdgeSite) -> None:
    """Each check that fails is a verdict of its own, with its remedy."""
    site.config.write_text(site.config.read_text().replace('"dock-1"', '"dock-2"'))

    assert examine(site)["certificate's name"].health is Health.BAD


def test_a_damaged_journal_is_bad(site: EdgeSite) -> None:
    """What is no database is told; nothing is changed about it."""
    journal = load_config(site.config).storage.journal
    journal.write_bytes(b"no database" * 1_000)

    assert examine(site)["journal"].health is Health.BAD
    assert journal.read_bytes() == b"no database" * 1_000


def test_a_look_that_hangs_is_left_behind(site: EdgeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are made, and the one that hangs says so."""
    never = threading.Event()
    monkeypatch.setattr(examining, "_clock_state", never.wait)

    found = examine(site, patience_s=2.0)
    never.set()

    assert "no answer within" in found["clock"].seen
    assert found["staging disk"].health is Health.GOOD


@pytest.mark.processes
def test_a_site_that_runs_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Broker and archive answer the dock's own certificate, and the agent its socket."""
    running = Site(tmp_path / "site", [], SiteOptions(bays=1))
    running.prepare()
    try:
        running.start_archive()
        running.start_dock()
        status = main(["doctor", "--json", "--config", running.config("edge")])
    finally:
        running.stop()

    found = {one["subject"]: one for one in json.loads(capsys.readouterr().out)}
    assert status == 0
    for subject in ("configuration", "broker", "archive", "agent", "journal"):
        assert found[subject]["health"] == "good", found[subject]
