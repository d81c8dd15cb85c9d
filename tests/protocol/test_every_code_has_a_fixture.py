"""What protocol/findings.py promises: each code has a fixture, and each fixture a code."""

from pathlib import Path

import pytest

from protocol.findings import FindingCode
from tests.protocol.vectors import VECTORS, read_json

FOLDERS = sorted(path for path in VECTORS.glob("F-*") if path.is_dir())


def test_folders_are_the_codes() -> None:
    """There is one folder for each finding code, and none for anything else."""
    assert [folder.name for folder in FOLDERS] == sorted(code.value for code in FindingCode)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_expects_its_code(folder: Path) -> None:
    """Each folder has a case, and each of its cases expects the code that it is named after."""
    cases = sorted(folder.glob("case*.json"))

    assert folder / "case.json" in cases
    assert {read_json(case)["expect"] for case in cases} == {folder.name}
