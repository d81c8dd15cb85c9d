"""Statements about uploads, bags and receipts; of one database only as little as queries.py."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Select, Update, exists, insert, select
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
    """The groups that have no bag and miss no file."""
    return (
        select(groups.c.group_id)
        .join(manifests, groups.c.manifest_id == manifests.c.manifest_id)
        .where(
            groups.c.bag_id.is_(None),
            manifests.c.state == ManifestState.ADMITTED.value,
            ~_misses_files(),
        )
        .order_by(groups.c.group_id)
    )


def complete_group(group_id: int) -> Select[Any]:
    """A group's manifest, if the group has no bag and misses no file."""
    return (
        select(groups.c.manifest_id, groups.c.recording_id, manifests.c.envelope)
        .join(manifests, groups.c.manifest_id == manifests.c.manifest_id)
        .where(groups.c.group_id == group_id, groups.c.bag_id.is_(None), ~_misses_files())
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


def unreceipted(manifest_id: ManifestId) -> Select[Any]:
    """The envelope of a manifest that has no receipt yet."""
    return select(manifests.c.envelope).where(
        manifests.c.manifest_id == manifest_id,
        manifests.c.state == ManifestState.ADMITTED.value,
    )


def bags_of(manifest_id: ManifestId) -> Select[Any]:
    """The groups of a manifest with their bags, where they have one."""
    return (
        select(
            groups.c.recording_id,
            groups.c.existing,
            groups.c.bag_id,
            bags.c.path,
            bags.c.tagmanifest_sha256,
        )
        .outerjoin(bags, groups.c.bag_id == bags.c.bag_id)
        .where(groups.c.manifest_id == manifest_id)
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
