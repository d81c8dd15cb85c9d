import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from protocol.envelope import take_apart
from tests.e2e.archive_reading import refuse_bad_bags

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parent.parent.parent


def test_demo_archives_everything_once(tmp_path: Path) -> None:
    """The whole demo ends with 0, all bags are good to stock tools, the stranger left an alert."""
    demo = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--once", "--plain", "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"DEMO_DIR": str(demo)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "was pulled out of bay 2" in done.stdout
    assert "in a network namespace of its own" in done.stdout
    assert refuse_bad_bags(demo / "archive") > 0
    with closing(sqlite3.connect(demo / "server" / "catalogue.sqlite")) as catalogue:
        recorders = catalogue.execute("SELECT DISTINCT recorder FROM manifests ORDER BY 1")
        assert [name for (name,) in recorders] == ["R-0001", "R-0002", "R-0003"]
        envelopes = catalogue.execute("SELECT envelope FROM manifests").fetchall()
        sealed = [json.loads(take_apart(envelope).payload) for (envelope,) in envelopes]
        assert {one["isolation"] for one in sealed} == {"holding"}
        dock_says = (demo / "archive/custody/watched").iterdir()
        assert [path.name for path in dock_says] == ["dock-01"]
        alerts = catalogue.execute("SELECT facts, recorder FROM alerts WHERE bay = 4").fetchall()
    assert [(json.loads(facts)["serial"], name) for facts, name in alerts] == [("9999999", None)]
