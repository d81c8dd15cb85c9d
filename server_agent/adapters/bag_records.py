"""The catalogue's side of uploads and bags."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row as Found
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.digest import Digests
from protocol.identifiers import DockId, ManifestId, RecordingId
from protocol.keys import KeyId
from protocol.receipt import ArchivedBag
from server_agent.archive.layout import DOCKING
from server_agent.catalogue import bag_queries, queries
from server_agent.catalogue.rows import BagFacts, verdict_columns
from server_agent.intake.states import FileState, ManifestState


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingEntry:
    """A promised file and where its bytes belong; ``group`` is a recording's id or DOCKING."""

    file_id: int
    group_id: int
    manifest_id: ManifestId
    group: str
    safe_name: str
    size_bytes: int
    digests: Digests
    state: FileState


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteGroup:
    """A group whose files have all arrived and that has no bag yet."""

    group_id: int
    manifest_id: ManifestId
    recording_id: RecordingId | None
    envelope: bytes
    files: tuple[IncomingEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBag:
    """A group of a manifest and its bag, if it has one."""

    recording_id: RecordingId | None
    existing: bool
    bag: BagFacts | None


async def find_upload(
    connection: AsyncConnection, manifest_id: ManifestId, sha256: str
) -> tuple[DockId, IncomingEntry] | None:
    """Return a file of an admitted or archived manifest, and whose manifest it is."""
    row = (await connection.execute(bag_queries.upload(manifest_id, sha256))).one_or_none()
    return None if row is None else (DockId(row.dock), entry_of(row))


async def mark_file(
    connection: AsyncConnection, file_id: int, *, before: FileState, after: FileState
) -> bool:
    """Let a file go from one state to another; return whether it was in the first."""
    statement = bag_queries.mark_files([file_id], before=before, after=after)
    return (await connection.execute(statement)).rowcount == 1


async def load_arrived(connection: AsyncConnection) -> list[IncomingEntry]:
    """Return the files that have arrived and stand in no bag."""
    return [entry_of(row) for row in (await connection.execute(bag_queries.arrived_files())).all()]


async def load_missing(connection: AsyncConnection) -> list[IncomingEntry]:
    """Return the files that admitted manifests miss."""
    return [entry_of(row) for row in (await connection.execute(bag_queries.missing_files())).all()]


async def load_complete_groups(connection: AsyncConnection) -> list[int]:
    """Return the numbers of groups whose files have all arrived and that have no bag."""
    return list((await connection.execute(bag_queries.complete_groups())).scalars().all())


async def load_complete_group(connection: AsyncConnection, group_id: int) -> CompleteGroup | None:
    """Return what is to become a bag; None if files are missing, or the bag stands."""
    row = (await connection.execute(bag_queries.complete_group(group_id))).one_or_none()
    if row is None:
        return None
    files = (await connection.execute(bag_queries.files_of(group_id))).all()
    return CompleteGroup(
        group_id=group_id,
        manifest_id=row.manifest_id,
        recording_id=row.recording_id,
        envelope=row.envelope,
        files=tuple(map(entry_of, files)),
    )


async def record_bag(
    connection: AsyncConnection, group_id: int, bag: ArchivedBag, *, now_utc: datetime
) -> None:
    """Let a group stand in its bag, and its files be archived."""
    known = (await connection.execute(bag_queries.bag_at(bag.path))).one_or_none()
    if known is None:
        row = {
            "path": bag.path,
            "tagmanifest_sha256": bag.tagmanifest_sha256,
            "files": bag.files,
            "size_bytes": bag.size_bytes,
            "archived_at": now_utc,
        }
        bag_id = (await connection.execute(bag_queries.add_bag(), row)).scalar_one()
    else:
        bag_id = known.bag_id
    await connection.execute(bag_queries.file_in_bag(group_id, bag_id))
    await connection.execute(bag_queries.archive_files(group_id))


async def load_unreceipted(
    connection: AsyncConnection, manifest_id: ManifestId
) -> tuple[bytes, list[GroupBag]] | None:
    """Return an admitted manifest's envelope and its groups; None if it is in another state."""
    return next(iter(await load_all_unreceipted(connection, [manifest_id])), None)


async def load_all_unreceipted(
    connection: AsyncConnection, ids: Collection[ManifestId]
) -> list[tuple[bytes, list[GroupBag]]]:
    """Return envelope and groups of those manifests that are admitted and have no receipt."""
    envelopes = (await connection.execute(bag_queries.unreceipted(ids))).all()
    found: dict[ManifestId, list[GroupBag]] = {row.manifest_id: [] for row in envelopes}
    for row in (await connection.execute(bag_queries.bags_of(found.keys()))).all():
        found[row.manifest_id].append(
            GroupBag(recording_id=row.recording_id, existing=row.existing, bag=_bag(row))
        )
    return [(row.envelope, found[row.manifest_id]) for row in envelopes]


async def record_receipts(
    connection: AsyncConnection, receipts: Mapping[ManifestId, bytes], *, now_utc: datetime
) -> None:
    """Keep the receipts of manifests: they are archived."""
    rows = [
        {
            "key": manifest_id,
            **verdict_columns(state=ManifestState.ARCHIVED, at=now_utc, receipt=receipt),
        }
        for manifest_id, receipt in receipts.items()
    ]
    if rows:
        await connection.execute(queries.change_manifest(), rows)


async def load_bagged(connection: AsyncConnection) -> list[ManifestId]:
    """Return admitted manifests all of whose groups have bags."""
    return list((await connection.execute(bag_queries.bagged_manifests())).scalars().all())


async def load_states(
    connection: AsyncConnection, ids: Collection[ManifestId]
) -> Mapping[ManifestId, ManifestState]:
    """Return where those manifests stand that the catalogue has."""
    rows = (await connection.execute(bag_queries.states_of(ids))).all()
    return {row.manifest_id: ManifestState(row.state) for row in rows}


async def load_certificate(connection: AsyncConnection, key_id: KeyId) -> bytes | None:
    """Return the PEM of the certificate of a key that signs, or once signed, manifests."""
    pem: bytes | None = (await connection.execute(queries.certificate(key_id))).scalar_one_or_none()
    return pem


def entry_of(row: Found[Any]) -> IncomingEntry:
    """Return what a row says of a promised file."""
    return IncomingEntry(
        file_id=row.file_id,
        group_id=row.group_id,
        manifest_id=row.manifest_id,
        group=DOCKING if row.recording_id is None else row.recording_id,
        safe_name=row.safe_name,
        size_bytes=row.size_bytes,
        digests=Digests(sha256=row.sha256, sm3=row.sm3),
        state=FileState(row.state),
    )


def _bag(row: Found[Any]) -> BagFacts | None:
    if row.bag_id is None:
        return None
    return BagFacts(bag_id=row.bag_id, path=row.path, tagmanifest_sha256=row.tagmanifest_sha256)
