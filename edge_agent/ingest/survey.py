"""All that is known of a recorder before the first file is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_agent.ingest.files import FileKey, FileRow
from edge_agent.ingest.grouping import ClipGroup, find_sequence_gaps, group_clips
from edge_agent.ingest.inventory import FoundFile, Listing, take_inventory
from edge_agent.ingest.plan import Plan, make_plan
from edge_agent.ingest.profile import Profile
from edge_agent.ingest.reconciling import reconcile
from edge_agent.ingest.room import Room
from protocol.findings import Finding, FindingCode
from protocol.manifest import NotTaken

# After these a recorder was read to its end, but not all that is on it is known.
TO_BE_SEEN: Final = frozenset(
    {
        FindingCode.PATH_TOO_LONG,
        FindingCode.TOO_MANY_ENTRIES,
        FindingCode.UNREADABLE_DIRECTORY,
        FindingCode.UNREADABLE_FILE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a docking is about, and what it is going to do.

    Attributes:
        groups: Recordings, oldest first; with clips that were begun and are gone from the recorder.
        others: Files that are no clips, likewise.
        listed: What is on the recorder now and is to be taken, or was.
        outdated: Unfinished copies that are to be forgotten.
        absent: Unfinished copies of what is not in the listing.
        is_whole: Whether the listing shows all that is on the recorder.
    """

    groups: tuple[ClipGroup, ...]
    others: tuple[FoundFile, ...]
    listed: frozenset[FileKey]
    not_taken: tuple[NotTaken, ...]
    outdated: tuple[FileRow, ...]
    absent: tuple[FileRow, ...]
    is_whole: bool
    plan: Plan
    findings: tuple[Finding, ...]


def survey(
    listing: Listing,
    rows: Iterable[FileRow],
    profile: Profile,
    *,
    docked_at: datetime,
    room: Room,
    generations: Mapping[FileKey, int] | None = None,
) -> Survey:
    """Return what a docking is about.

    Args:
        listing: Untrusted.
        rows: All that the journal has of this recorder.
        profile: Of the recorder's model.
        docked_at: Aware.
        room: On our disk, less what others were allotted.
        generations: See `take_inventory`.
    """
    rows = tuple(rows)
    inventory = take_inventory(listing, profile, docked_at=docked_at, generations=generations)
    files = reconcile(inventory, rows, profile)
    groups = group_clips(files.clips, profile)
    return Survey(
        groups=groups,
        others=files.others,
        listed=inventory.keys,
        not_taken=inventory.not_taken,
        outdated=files.outdated,
        absent=files.absent,
        is_whole=TO_BE_SEEN.isdisjoint(finding.code for finding in inventory.findings),
        plan=make_plan(
            groups,
            files.others,
            {row.key: row for row in rows},
            room=room,
            absent=frozenset(row.key for row in files.absent),
        ),
        findings=(*inventory.findings, *find_sequence_gaps(inventory.clips), *files.findings),
    )
