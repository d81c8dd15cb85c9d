"""The committed volumes, docked for real: each is said to be wrong in exactly its own way."""

import contextlib
import dataclasses
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from edge_agent.docking import run_docking
from edge_agent.ingest.listing import Limits
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import EntryKind, RawEntry
from edge_agent.ports import DockingSettings
from protocol import strict_json
from protocol.findings import Finding
from protocol.manifest import EvidenceLevel
from tests.protocol.vectors import VECTORS, read_json
from tests.simulators.docking_site import BAY, DockingSite, open_site
from tests.simulators.memory_staging import MemoryStaging
from tests.simulators.memory_volume import MemoryVolume, Stored

GOOD = VECTORS / "good" / "volume" / "case.json"
ABOUT_A_VOLUME = ("INV", "FOR", "CLK", "SEQ", "REC", "ING", "EVD", "DEV", "NET")
BAD = sorted(path for kind in ABOUT_A_VOLUME for path in VECTORS.glob(f"F-{kind}-*/case*.json"))


@dataclass(slots=True, kw_only=True)
class ListedVolume(MemoryVolume):
    """Lists exactly what the case says, whatever its files are when they are read."""

    listing: list[RawEntry] = field(default_factory=list)

    def entries(self) -> Iterator[RawEntry]:
        self.check_docked()
        yield from self.listing


def exact(named: dict[str, Any]) -> bytes:
    return b64decode(named["path_base64"], validate=True)


def expanded(recipe: dict[str, Any]) -> bytes:
    return str(recipe["repeat"]).encode() * int(recipe["times"])


def volume_of(case: dict[str, Any]) -> ListedVolume:
    volume = ListedVolume()
    for entry in case["entries"]:
        raw = RawEntry(
            path=exact(entry),
            kind=EntryKind(entry["kind"]),
            size_bytes=entry.get("size_bytes", 0),
            mtime_ns=entry.get("mtime_ns", 0),
        )
        volume.listing.append(raw)
        if raw.kind is EntryKind.FILE:
            content = expanded(entry["content"])
            assert len(content) == raw.size_bytes
            volume.files[raw.path] = Stored(content=content, mtime_ns=raw.mtime_ns)
    return volume


def apply(fault: dict[str, Any], volume: ListedVolume, staging: MemoryStaging) -> None:
    """Let recorder or disk do what the case says; a fault that nobody knows is an error."""
    match fault:
        case {"fault": "unreadable", "from_byte": from_byte}:
            path = exact(fault)
            volume.files[path] = dataclasses.replace(volume.files[path], bad_from=from_byte)
        case {"fault": "size_changes", "size_bytes": size_bytes}:
            path = exact(fault)
            content = (volume.files[path].content * 2)[:size_bytes]
            volume.files[path] = dataclasses.replace(volume.files[path], content=content)
        case {"fault": "leaves", "after_bytes": after_bytes}:
            volume.chunk_bytes, volume.pull_after_chunks = after_bytes, 1
        case {"fault": "second_read_differs", "content": recipe}:
            volume.second_reads[exact(fault)] = expanded(recipe)
        case {"fault": "read_back_differs", "copies": copies}:
            staging.changing_seals = copies
        case {"fault": "eviction_unproved"}:
            staging.evicts = False
        case {"fault": "disk_full", "after_bytes": after_bytes}:
            staging.unannounced_bytes = staging.room_bytes - after_bytes
        case _:
            raise AssertionError(fault)


def told_in(case: dict[str, Any]) -> Told | None:
    if "told" not in case:
        return None
    return strict_json.parse(json.dumps(case["told"]).encode(), Told, max_bytes=1 << 16)


def settings_of(case: dict[str, Any], site: DockingSite) -> DockingSettings:
    limits = Limits(max_entries=case["max_entries"]) if "max_entries" in case else Limits()
    profiles = tuple(one for one in site.settings.profiles if one.name == case["profile"])
    return dataclasses.replace(
        site.settings,
        profiles=profiles,
        evidence_level=EvidenceLevel(case["evidence_level"]),
        limits=limits,
    )


@contextlib.asynccontextmanager
async def docked(case: dict[str, Any], tmp_path: Path) -> AsyncIterator[tuple[Finding, ...]]:
    """Dock the case's volume, and give what its sealed manifests say."""
    volume, staging = volume_of(case), MemoryStaging()
    for fault in case["faults"]:
        apply(fault, volume, staging)
    async with open_site(tmp_path / "journal.sqlite", staging) as site:
        site.now = datetime.fromisoformat(case["docked_at"])
        await run_docking(
            volume,
            bay=BAY,
            ports=site.ports,
            settings=settings_of(case, site),
            report=site.reported.append,
            told=told_in(case),
        )
        manifests = await site.manifests()
        assert manifests
        yield tuple(found for manifest in manifests for found in manifest.findings)


async def test_nothing_is_said_about_the_good_volume(tmp_path: Path) -> None:
    """A manifest of what nothing is wrong with has no findings."""
    async with docked(read_json(GOOD), tmp_path) as findings:
        assert findings == ()


@pytest.mark.parametrize("path", BAD, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_volume_has_its_finding(path: Path, tmp_path: Path) -> None:
    """The signed manifest has the findings that the folder is named after, and no others."""
    case = read_json(path)

    async with docked(case, tmp_path) as findings:
        about = [found.path for found in findings if found.code.value == case["expect"]]
        others = {found.code.value for found in findings} - {case["expect"]}

    assert case["expect"] == path.parent.name
    assert sorted(about, key=repr) == sorted(case["expect_paths"], key=repr)
    assert others == set(case["companions"])


@pytest.mark.parametrize(
    "path",
    [path for path in BAD if read_json(path)["faults"]],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
async def test_the_fault_alone_is_to_blame(path: Path, tmp_path: Path) -> None:
    """Where recorder and disk do what they should, nothing is said about the same listing."""
    case = read_json(path) | {"faults": []}

    async with docked(case, tmp_path) as findings:
        assert findings == ()
