"""From what was claimed to rows of the catalogue's tables; nothing here asks a database."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from protocol.digest import sha256_hex
from protocol.identifiers import DockId
from protocol.manifest import Manifest
from protocol.messages import Alert
from protocol.receipt import ArchivedBag
from server_agent.archive.names import safe_names
from server_agent.intake.checks import Claim, Refused
from server_agent.intake.missing import (
    ArchivedGroup,
    Group,
    find_match,
    groups_of,
    recording_key,
)
from server_agent.intake.states import FileState, ManifestState

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class BagFacts:
    """A bag that the catalogue knows."""

    bag_id: int
    path: str
    tagmanifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """A group, the names its files get (by SHA-256), and the bag that should have them already."""

    group: Group
    safe_names: Mapping[str, str]
    matched_bag_id: int | None


def plan_groups(
    manifest: Manifest, archived: Collection[ArchivedGroup]
) -> tuple[PlannedGroup, ...]:
    """Return what has to become of each group of an admitted manifest.

    Args:
        manifest: The claim.
        archived: What is archived of the same recorder.
    """
    return tuple(_plan(manifest, group, archived) for group in groups_of(manifest))


def describe_bag(group: Group, bag: BagFacts, *, existing: bool) -> ArchivedBag:
    """Return what a receipt says about a group that stands in *bag*.

    The counts are the group's: an older bag of other files may hold more.
    """
    return ArchivedBag(
        recording_id=None if group.recording is None else group.recording.recording_id,
        path=bag.path,
        tagmanifest_sha256=bag.tagmanifest_sha256,
        files=len(group.files),
        size_bytes=group.size_bytes,
        existing=existing,
    )


def manifest_row(
    claim: Claim,
    *,
    state: ManifestState,
    received_at: datetime,
    refused: Refused | None = None,
    receipt: bytes | None = None,
) -> Row:
    """Return a manifest's row; it was archived when it came if there is a receipt."""
    manifest = claim.manifest
    return {
        "manifest_id": manifest.manifest_id,
        "dock": claim.dock,
        "sequence": manifest.sequence,
        "payload_sha256": claim.payload_sha256,
        "envelope": claim.envelope,
        "docking_id": manifest.docking_id,
        "part": manifest.part,
        "bay": manifest.bay,
        "recorder": manifest.recorder.recorder_id,
        "officer": manifest.officer,
        "received_at": received_at,
        **verdict_columns(state=state, at=received_at, refused=refused, receipt=receipt),
    }


def verdict_columns(
    *,
    state: ManifestState,
    at: datetime,
    refused: Refused | None = None,
    receipt: bytes | None = None,
) -> Row:
    """Return the columns of a manifest that a later verdict changes."""
    return {
        "state": state.value,
        "archived_at": None if receipt is None else at,
        "refusal_code": None if refused is None else refused.code.value,
        "refusal_detail": None if refused is None else refused.detail,
        "receipt": receipt,
    }


def group_row(claim: Claim, planned: PlannedGroup) -> Row:
    """Return a group's row; the database gives it its number."""
    manifest, recording = claim.manifest, planned.group.recording
    return {
        "manifest_id": manifest.manifest_id,
        "recording_id": None if recording is None else recording.recording_id,
        "dock": claim.dock,
        "recorder": manifest.recorder.recorder_id,
        "officer": (recording.officer if recording else None) or manifest.officer,
        "recorded_on": recording.recorded_on if recording else docked_on(manifest),
        "started": recording.started if recording else None,
        "marked": recording.marked if recording else False,
        "complete": recording.complete if recording else True,
        "existing": False,
        "bag_id": None,
        "matched_bag_id": planned.matched_bag_id,
    }


def file_rows(claim: Claim, planned: PlannedGroup, *, group_id: int) -> list[Row]:
    """Return the rows of a group's files, in its order."""
    recording = planned.group.recording
    clips = {clip.file.digests.sha256: clip for clip in recording.clips} if recording else {}
    state = FileState.MISSING if planned.matched_bag_id is None else FileState.MATCHED
    rows: list[Row] = []
    for position, file in enumerate(planned.group.files):
        clip = clips.get(file.digests.sha256)
        rows.append(
            {
                "group_id": group_id,
                "manifest_id": claim.manifest.manifest_id,
                "recorder": claim.manifest.recorder.recorder_id,
                "position": position,
                "path": file.name.path,
                "raw_path": file.name.raw_path,
                "safe_name": planned.safe_names[file.digests.sha256],
                "size_bytes": file.size_bytes,
                "mtime_ns": file.mtime_ns,
                "sha256": file.digests.sha256,
                "sm3": file.digests.sm3,
                "kind": clip.kind.value if clip else None,
                "sequence": clip.sequence if clip else None,
                "started": clip.started if clip else None,
                "marked": clip.marked if clip else False,
                "state": state.value,
            }
        )
    return rows


def refused_row(topic: str, body: bytes, refused: Refused, *, received_at: datetime) -> Row:
    """Return the row of a message that was not admitted, byte for byte as it came."""
    return {
        "received_at": received_at,
        "topic": topic,
        "sha256": sha256_hex(body),
        "code": refused.code.value,
        "detail": refused.detail,
        "body": body,
        "times": 1,
    }


def alert_row(alert: Alert, *, received_at: datetime) -> Row:
    """Return the row of a dock's alert."""
    return {
        "alert_id": alert.alert_id,
        "dock": alert.dock,
        "bay": alert.bay,
        "recorder": alert.recorder,
        "code": alert.code,
        "text": alert.text,
        "facts": dict(alert.facts),
        "raised_at": alert.raised_at,
        "received_at": received_at,
    }


def own_alert_row(
    *,
    alert_id: str,
    code: str,
    text: str,
    facts: Mapping[str, str],
    now_utc: datetime,
    dock: DockId | None,
) -> Row:
    """Return the row of an alert that the archive raises itself, about *dock* or about itself."""
    return {
        "alert_id": alert_id,
        "dock": dock,
        "bay": None,
        "recorder": None,
        "code": code,
        "text": text,
        "facts": dict(facts),
        "raised_at": now_utc,
        "received_at": now_utc,
    }


def docked_on(manifest: Manifest) -> date:
    """Return the local date, at the dock, on which the recorder came.

    A zone that this machine does not know counts as UTC: a folder's date is no evidence.
    """
    try:
        return manifest.docked_at.astimezone(ZoneInfo(manifest.clock.timezone)).date()
    except (ValueError, OSError, LookupError, OverflowError):  # LookupError: no such zone
        return manifest.docked_at.astimezone(UTC).date()


def _plan(manifest: Manifest, group: Group, archived: Collection[ArchivedGroup]) -> PlannedGroup:
    key = recording_key(manifest, group.recording) if group.recording else None
    names = safe_names([file.name for file in group.files])
    digests = [file.digests.sha256 for file in group.files]
    return PlannedGroup(
        group=group,
        safe_names=dict(zip(digests, names, strict=True)),
        matched_bag_id=find_match(group, key, archived),
    )
