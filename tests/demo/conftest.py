import os
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from demo.volumes import DemoVolumes, build_volumes

TODAY: Final = date(2026, 11, 23)


@pytest.fixture(scope="session")
def footage_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all workers of a run: its lock lets one of them make each shot."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return shared / "footage"


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory, footage_cache: Path) -> DemoVolumes:
    """The demo's volumes; tests read them and change nothing."""
    return build_volumes(tmp_path_factory.mktemp("recorders"), footage_cache, today=TODAY)
