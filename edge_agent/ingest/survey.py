"""All that is known of a piece of a recorder before the first file of it is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from edge_agent.ingest.files import FileKey, FileRow
from edge_agent.ingest.grouping import ClipGroup, group_clips
from edge_agent.ingest.inventory import FoundFile, take_inventory
from edge_agent.ingest.plan import Plan, make_plan
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.reconciling import reconcile
from edge_agent.ingest.room import Room
from edge_agent.ingest.volume import RawEntry
from protocol.findings import Finding
from protocol.manifest import NotTaken


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a docking is about, in one piece of it, and what it is going to do.

    Attributes:
        groups: Recordings, oldest first; with clips that were begun and are gone from the recorder.
        others: Files that are no clips, likewise.
        listed: What is on the recorder now and is to be taken, or was.
        outdated: Unfinished copies that are to be forgotten.
        absent: Unfinished copies of what is not in the listing.
    """

    groups: tuple[ClipGroup, ...]
    others: tuple[FoundFile, ...]
    listed: frozenset[FileKey]
    not_taken: tuple[NotTaken, ...]
    outdated: tuple[FileRow, ...]
    absent: tuple[FileRow, ...]
    plan: Plan
    findings: tuple[Finding, ...]


def survey(
    entries: Iterable[RawEntry],
    rows: Iterable[FileRow],
    profile: Profile,
    *,
    docked_at: datetime,
    room: Room,
    generations: Mapping[FileKey, int] | None = None,
) -> Survey:
    """Return what a docking is about.

    Args:
        entries: Of the listing, untrusted.
        rows: All that the journal has of these paths, and of files that are gone.
        profile: Of the recorder's model.
        docked_at: Aware.
        room: On our disk, less what others were allotted.
        generations: See `take_inventory`.
    """
    rows = tuple(rows)
    inventory = take_inventory(entries, profile, docked_at=docked_at, generations=generations)
    files = reconcile(inventory, rows, profile)
    groups = group_clips(files.clips, profile)
    return Survey(
        groups=groups,
        others=files.others,
        listed=inventory.keys,
        not_taken=inventory.not_taken,
        outdated=files.outdated,
        absent=files.absent,
        plan=make_plan(
            groups,
            files.others,
            {row.key: row for row in rows},
            room=room,
            absent=frozenset(row.key for row in files.absent),
        ),
        findings=(*inventory.findings, *files.findings),
    )
