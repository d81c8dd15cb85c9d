"""A recorder with a bad sector, on a real disk, and what a person gets out of the dock after it."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Final

from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.ingest.files import Device, FileRow
from edge_agent.ingest.salvage import SECTOR_BYTES
from protocol.digest import sha256_hex
from protocol.manifest import Incomplete
from tests.simulators.docking_site import (
    MORNING,
    clip_path,
    mtime_ns,
    noise,
    open_site,
)
from tests.simulators.memory_volume import MemoryVolume, Stored

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/durability.md"
RECIPE: Final = re.compile(
    r"^### A file that cannot be read whole$.*?^```$(.*?)^```$", re.MULTILINE | re.DOTALL
)
R1: Final = Device(model="DSJ-A8", serial="0000017")
BAD: Final = clip_path(MORNING, 1)
SECTORS: Final = 700
CONTENT: Final = noise(BAD, SECTORS * SECTOR_BYTES)


def card(*bad_sectors: int) -> MemoryVolume:
    clip = Stored(content=CONTENT, mtime_ns=mtime_ns(MORNING), bad_sectors=frozenset(bad_sectors))
    return MemoryVolume(files={BAD: clip})


async def docked(folder: Path, *bad_sectors: int) -> tuple[FileRow, Incomplete]:
    """Dock the recorder, and return the bad file's row and what the manifest says of it."""
    staging = folder / "staging"
    async with open_site(folder / "journal.sqlite", StagingDisk(staging, reserve_bytes=0)) as site:
        site.salvaging = SalvageDisk(staging)
        await site.dock(card(*bad_sectors))
        [row] = await site.journal.known_files(R1)
        [manifest] = await site.manifests()
        [told] = manifest.incomplete
    return row, told


def test_the_page_puts_a_file_together_again(tmp_path: Path) -> None:
    """What durability.md says, done by the letter, gives the file with zeros where it has holes."""
    bad = {*range(100, 130), 400}
    row, told = asyncio.run(docked(tmp_path, *bad))
    match = RECIPE.search(PAGE.read_text("utf-8"))
    assert match is not None
    commands = (
        match[1]
        .replace("<path>", BAD.decode())
        .replace("<file id>", row.file_id)
        .replace("<verified bytes>", str(row.verified_bytes))
    )

    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{row.file_id}|{row.verified_bytes}"
    rescued = (tmp_path / "rescued").read_bytes()
    for sector in range(SECTORS):
        part = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
        assert rescued[part] == (bytes(SECTOR_BYTES) if sector in bad else CONTENT[part]), sector
    for told_part in told.readable:
        content = rescued[told_part.offset_bytes : told_part.end_bytes]
        assert sha256_hex(content) == told_part.sha256
