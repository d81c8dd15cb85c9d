"""What the demo proves at its end, with code of its own: nothing of the agents is imported here.

The archive is read as an expert would read it: folders, text files, SHA-256.
"""

import filecmp
import hashlib
import os
import sqlite3
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from json import loads
from pathlib import Path

from demo.volumes import DemoFile, DemoVolume, DemoVolumes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedClip:
    """One file of a recorder and where the archive keeps it."""

    recorder_id: str
    path: str
    size_bytes: int
    sha256: str
    bag: str
    receipt_id: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that was compared; ``faults`` is empty when everything is as it should be."""

    rows: tuple[ArchivedClip, ...]
    bags: tuple[Path, ...]
    faults: tuple[str, ...]


def find_bags(archive: Path) -> tuple[Path, ...]:
    """Return every bag below *archive*, in order; what is still being filled is none."""
    return tuple(sorted(_bags(archive)))


def _bags(archive: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(archive):
        if "bagit.txt" in names:
            # A recorder may have called a file so: what is in a bag is no bag.
            inside.clear()
            yield Path(folder)
        else:
            inside[:] = [name for name in inside if name != ".incoming"]


def receipts_by_bag(journal: Path) -> dict[str, str]:
    """Return the receipt that the dock verified, for each bag's path."""
    found: dict[str, str] = {}
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT receipt FROM manifest WHERE state = 'receipted'")
        for (envelope,) in rows:
            receipt = loads(b64decode(loads(envelope)["payload"]))
            for bag in receipt.get("bags", ()):
                found.setdefault(bag["path"], receipt["receipt_id"])
    return found


def _payloads(bags: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for bag in bags:
        for line in (bag / "manifest-sha256.txt").read_text().splitlines():
            digest, _, name = line.partition("  ")
            yield digest, bag / name


def _equal(original: Path, archived: Path, sha256: bytes) -> bool:
    with archived.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
    return digest == sha256 and filecmp.cmp(original, archived, shallow=False)


def _wanted(volume: DemoVolume) -> Iterator[tuple[DemoFile, str]]:
    for clip in volume.clips:
        alias = f"same as {Path(clip.alias_of).name}" if clip.alias_of else ""
        yield clip, alias or ("marked" if clip.marked else "")
    for other in volume.other_files:
        yield other, "other file"


def check_archive(volumes: DemoVolumes, archive: Path, receipts: Mapping[str, str]) -> Verdict:
    """Compare the archive with what was on the recorders, byte by byte.

    Every file of a registered recorder is there exactly once, under its digest; a second name of
    the same content adds no copy; foreign files and the unregistered recorder left nothing.
    """
    bags = find_bags(archive)
    places: dict[str, list[Path]] = defaultdict(list)
    for digest, place in _payloads(bags):
        places[digest].append(place)
    rows: list[ArchivedClip] = []
    faults: list[str] = []
    for volume in volumes.registered:
        for file, note in _wanted(volume):
            name = f"{volume.recorder_id} {file.relative_path}"
            where = places.get(file.sha256.hex(), [])
            if len(where) != 1:
                faults.append(f"{name}: archived {len(where)} times")
                continue
            if not _equal(volume.folder / file.relative_path, where[0], file.sha256):
                faults.append(f"{name}: other bytes in the archive")
            bag = where[0].parent.parent.relative_to(archive).as_posix()
            if bag not in receipts:
                faults.append(f"{bag}: the dock holds no receipt for it")
            rows.append(
                ArchivedClip(
                    recorder_id=str(volume.recorder_id),
                    path=file.relative_path,
                    size_bytes=file.size_bytes,
                    sha256=file.sha256.hex(),
                    bag=bag,
                    receipt_id=receipts.get(bag, ""),
                    note=note,
                )
            )
    faults += _uninvited(volumes, places)
    return Verdict(rows=tuple(rows), bags=bags, faults=tuple(faults))


def _uninvited(volumes: DemoVolumes, places: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    strangers = [("the unregistered recorder's", file) for file in volumes.unregistered.files]
    foreign = [
        (f"{volume.recorder_id}: the foreign file", file)
        for volume in volumes.registered
        for file in volume.foreign_files
    ]
    for whose, file in (*strangers, *foreign):
        if file.sha256.hex() in places:
            yield f"{whose} {file.relative_path} is in the archive"
