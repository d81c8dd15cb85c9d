"""Statements about uploads, bags and receipts; of one database only as little as queries.py."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, Update, bindparam, exists, insert, select
from sqlalchemy import update as change
from sqlalchemy.sql.dml import ReturningInsert

from protocol.identifiers import ManifestId
from server_agent.catalogue.tables import bags, files, groups, manifests
from server_agent.intake.states import FileState, ManifestState

_INCOMING: Final = (
    files.c.file_id,
    files.c.group_id,
    files.c.manifest_id,
    files.c.safe_name,
    files.c.size_bytes,
    files.c.sha256,
    files.c.sm3,
    files.c.state,
    groups.c.recording_id,
)


def upload(manifest_id: ManifestId, sha256: str) -> Select[Any]:
    """A file that a manifest promises, with what decides whether it may be sent."""
    return (
        select(*_INCOMING, manifests.c.dock)
        .join(groups, files.c.group_id == groups.c.group_id)
        .join(manifests, files.c.manifest_id == manifests.c.manifest_id)
        .where(
            files.c.manifest_id == manifest_id,
            files.c.sha256 == sha256,
            manifests.c.state.in_((ManifestState.ADMITTED.value, ManifestState.ARCHIVED.value)),
        )
    )


def arrived_files() -> Select[Any]:
    """Files that have arrived and stand in no bag."""
    return (
        select(*_INCOMING)
        .join(groups, files.c.group_id == groups.c.group_id)
        .where(groups.c.bag_id.is_(None), files.c.state == FileState.ARRIVED.value)
        .order_by(files.c.group_id, files.c.position)
    )


def missing_files() -> Select[Any]:
    """Files whose bytes are wanted."""
    return (
        select(*_INCOMING)
        .join(groups, files.c.group_id == groups.c.group_id)
        .where(groups.c.bag_id.is_(None), files.c.state == FileState.MISSING.value)
    )


def mark_files(file_ids: Collection[int], *, before: FileState, after: FileState) -> Update:
    """Let files go from one state to another; those in a third state stay."""
    return (
        change(files)
        .where(files.c.file_id.in_(file_ids), files.c.state == before.value)
        .values(state=after.value)
    )


def complete_groups() -> Select[Any]:
    """The groups that have no bag, match none, and miss no file."""
    return (
        select(groups.c.group_id)
        .join(manifests, groups.c.manifest_id == manifests.c.manifest_id)
        .where(
            groups.c.bag_id.is_(None),
            groups.c.matched_bag_id.is_(None),
            manifests.c.state == ManifestState.ADMITTED.value,
            ~_misses_files(),
        )
        .order_by(groups.c.group_id)
    )


def complete_group(group_id: int) -> Select[Any]:
    """A group's manifest, if the group has no bag, matches none, and misses no file."""
    return (
        select(groups.c.manifest_id, groups.c.recording_id, manifests.c.envelope)
        .join(manifests, groups.c.manifest_id == manifests.c.manifest_id)
        .where(
            groups.c.group_id == group_id,
            groups.c.bag_id.is_(None),
            groups.c.matched_bag_id.is_(None),
            ~_misses_files(),
        )
    )


def files_of(group_id: int) -> Select[Any]:
    """A group's files, in its order."""
    return (
        select(*_INCOMING)
        .join(groups, files.c.group_id == groups.c.group_id)
        .where(files.c.group_id == group_id)
        .order_by(files.c.position)
    )


def bag_at(path: str) -> Select[Any]:
    """The bag that the catalogue has at a path."""
    return select(bags).where(bags.c.path == path)


def add_bag() -> ReturningInsert[Any]:
    """A bag; it answers its number."""
    return insert(bags).returning(bags.c.bag_id)


def file_in_bag(group_id: int, bag_id: int) -> Update:
    """A group's bag."""
    return change(groups).where(groups.c.group_id == group_id).values(bag_id=bag_id)


def archive_files(group_id: int) -> Update:
    """All files of a group, once its bag stands."""
    return change(files).where(files.c.group_id == group_id).values(state=FileState.ARCHIVED.value)


def match_group(group_id: int, bag_id: int) -> Update:
    """Let a group that has no bag wait for a bag to be read again."""
    return (
        change(groups)
        .where(groups.c.group_id == group_id, groups.c.bag_id.is_(None))
        .values(matched_bag_id=bag_id)
    )


def matched_bags() -> Select[Any]:
    """The bags that groups wait for."""
    return (
        select(groups.c.matched_bag_id)
        .where(groups.c.matched_bag_id.is_not(None))
        .distinct()
        .order_by(groups.c.matched_bag_id)
    )


def bag(bag_id: int) -> Select[Any]:
    """A bag."""
    return select(bags).where(bags.c.bag_id == bag_id)


def matched_groups(bag_id: int, *, limit: int) -> Select[Any]:
    """The groups that wait for a bag, the oldest first."""
    return (
        select(groups.c.group_id, groups.c.manifest_id, groups.c.recording_id)
        .where(groups.c.matched_bag_id == bag_id)
        .order_by(groups.c.group_id)
        .limit(limit)
    )


def files_of_groups(group_ids: Collection[int]) -> Select[Any]:
    """The files of some groups."""
    return (
        select(*_INCOMING)
        .join(groups, files.c.group_id == groups.c.group_id)
        .where(files.c.group_id.in_(group_ids))
        .order_by(files.c.group_id, files.c.position)
    )


def names_in_bag(bag_id: int) -> Select[Any]:
    """What the files of a bag are called below its data/."""
    return (
        select(files.c.sha256, files.c.safe_name)
        .join(groups, files.c.group_id == groups.c.group_id)
        .where(groups.c.bag_id == bag_id, groups.c.existing.is_(False))
    )


def confirm_groups(group_ids: Collection[int], bag_id: int) -> Update:
    """Groups stand in the bag that they waited for."""
    return (
        change(groups)
        .where(groups.c.group_id.in_(group_ids))
        .values(bag_id=bag_id, matched_bag_id=None, existing=True)
    )


def confirm_files(group_ids: Collection[int]) -> Update:
    """All files of groups whose bag was read again."""
    return (
        change(files).where(files.c.group_id.in_(group_ids)).values(state=FileState.ARCHIVED.value)
    )


def rename_file() -> Update:
    """The file ``key`` is called ``name`` below its bag's data/."""
    return (
        change(files).where(files.c.file_id == bindparam("key")).values(safe_name=bindparam("name"))
    )


def mark_damaged(bag_id: int, now_utc: datetime) -> Update:
    """Nothing is matched to a bag any more."""
    return change(bags).where(bags.c.bag_id == bag_id).values(damaged_at=now_utc)


def forget_matches(group_ids: Collection[int]) -> tuple[Update, Update]:
    """Groups wait for a bag no longer: what has not arrived is missing."""
    return (
        change(groups).where(groups.c.group_id.in_(group_ids)).values(matched_bag_id=None),
        change(files)
        .where(files.c.group_id.in_(group_ids), files.c.state == FileState.MATCHED.value)
        .values(state=FileState.MISSING.value),
    )


def unreceipted(ids: Collection[ManifestId]) -> Select[Any]:
    """The envelopes of those manifests that have no receipt yet."""
    return select(manifests.c.manifest_id, manifests.c.envelope).where(
        manifests.c.manifest_id.in_(ids),
        manifests.c.state == ManifestState.ADMITTED.value,
    )


def envelopes_of(ids: Collection[ManifestId]) -> Select[Any]:
    """The envelopes of manifests."""
    return select(manifests.c.envelope).where(manifests.c.manifest_id.in_(ids))


def bags_of(ids: Collection[ManifestId]) -> Select[Any]:
    """The groups of manifests with their bags, where they have one."""
    return (
        select(
            groups.c.manifest_id,
            groups.c.recording_id,
            groups.c.existing,
            groups.c.bag_id,
            bags.c.path,
            bags.c.tagmanifest_sha256,
        )
        .outerjoin(bags, groups.c.bag_id == bags.c.bag_id)
        .where(groups.c.manifest_id.in_(ids))
        .order_by(groups.c.group_id)
    )


def bagged_manifests() -> Select[Any]:
    """Manifests whose groups all have bags, and that have no receipt: a crash came between."""
    unbagged = exists().where(
        groups.c.manifest_id == manifests.c.manifest_id, groups.c.bag_id.is_(None)
    )
    return select(manifests.c.manifest_id).where(
        manifests.c.state == ManifestState.ADMITTED.value, ~unbagged
    )


def states_of(ids: Collection[ManifestId]) -> Select[Any]:
    """Where manifests stand."""
    return select(manifests.c.manifest_id, manifests.c.state).where(
        manifests.c.manifest_id.in_(ids)
    )


def _misses_files() -> Any:
    return exists().where(
        files.c.group_id == groups.c.group_id, files.c.state == FileState.MISSING.value
    )
