"""A charger's light, from an empty bay to a recorder that may be taken, by real programs."""

import shutil
from pathlib import Path

import pytest

from demo.programs import ours
from demo.site import Site, SiteOptions
from tests.drivers.program import running
from tests.hardware.recorders import recorder

pytestmark = pytest.mark.processes


def test_a_light_says_safe_only_after_the_receipt(tmp_path: Path) -> None:
    """Reading, do not take, safe to take, in this order; taken out, it is dark."""
    docked = recorder(tmp_path / "recorder", 1)
    site = Site(tmp_path / "site", [docked.registered], SiteOptions(bays=2, has_charger=True))
    site.prepare()
    site.charger.parent.mkdir()
    link = ("--link", str(site.charger), "--slots", "2", "--slot", "1:charging:55")
    with running(*link, program=tuple(ours("charger-simulator"))) as charger:
        try:
            site.start_archive()
            site.start_dock()
            shutil.copytree(docked.folder, tmp_path / "card")
            site.bay(1).parent.mkdir(exist_ok=True)
            (tmp_path / "card").rename(site.bay(1))
            # Until the archive's registry is there, an empty bay asks for attention.
            for line in iter(charger.next_line, "slot 1 reading"):
                assert not line.endswith("safe-to-take")
            lit = ["slot 1 reading"]
            while lit[-1] != "slot 1 safe-to-take":
                lit.append(charger.next_line())
            site.bay(1).rename(tmp_path / "card")
            lit.append(charger.next_line())
        finally:
            site.stop()

    assert [line for line in lit if line != "slot 1 do-not-take"] == [
        "slot 1 reading",
        "slot 1 safe-to-take",
        "slot 1 empty",
    ]
