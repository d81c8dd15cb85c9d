"""What is on a recorder now beside what the journal has of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.ingest.files import FileRow, FileState
from edge_agent.ingest.inventory import FoundClip, FoundFile, Inventory, found_file
from edge_agent.ingest.profile import Profile
from protocol.findings import Finding, FindingCode
from protocol.manifest import name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """All files that a docking is about.

    Attributes:
        clips: On the recorder, or begun at an earlier docking and gone from it.
        others: Likewise, files that are no clips.
        outdated: Unfinished copies of what is on the recorder in another form: to be forgotten.
        absent: Unfinished copies of what is not in the listing at all.
        findings: About unfinished copies.
    """

    clips: tuple[FoundClip, ...]
    others: tuple[FoundFile, ...]
    outdated: tuple[FileRow, ...]
    absent: tuple[FileRow, ...]
    findings: tuple[Finding, ...]


def reconcile(inventory: Inventory, rows: Iterable[FileRow], profile: Profile) -> Reconciled:
    """Return what a docking is about; nothing that was ever read is forgotten without need.

    Args:
        inventory: What is on the recorder now.
        rows: All that the journal has of this recorder.
        profile: Of the recorder's model.
    """
    listed = inventory.keys
    paths = {key.path for key in listed}
    clips = list(inventory.clips)
    others = list(inventory.others)
    outdated: list[FileRow] = []
    absent: list[FileRow] = []
    findings: list[Finding] = []
    for row in sorted(rows, key=lambda row: row.key):
        if row.key in listed or row.state not in {FileState.STAGED, FileState.COPYING}:
            continue
        if row.state is FileState.COPYING:
            changed = row.key.path in paths
            (outdated if changed else absent).append(row)
            if not row.lost:
                findings.append(_about_unfinished(row, changed=changed))
            if changed:
                continue
        file = found_file(row.key, profile)
        if isinstance(file, FoundClip):
            clips.append(file)
        else:
            others.append(file)
    return Reconciled(
        clips=tuple(clips),
        others=tuple(others),
        outdated=tuple(outdated),
        absent=tuple(absent),
        findings=tuple(findings),
    )


def _about_unfinished(row: FileRow, *, changed: bool) -> Finding:
    taken = f"{row.verified_bytes} of {row.key.size_bytes} bytes were read before"
    path = name_of(row.key.path).path
    if changed:
        detail = f"{taken}; it has changed since and is read anew"
        return Finding(code=FindingCode.SIZE_CHANGED, path=path, detail=detail)
    detail = f"{taken}; it is gone from the recorder, and what was read is kept on the dock"
    return Finding(code=FindingCode.UNREADABLE_FILE, path=path, detail=detail)
