"""The catalogue's side of admission: what a batch needs to know, and what came of it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Row as Found
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.chain import ChainHead
from protocol.identifiers import DockId, ManifestId, RecorderId
from protocol.keys import KeyId
from protocol.manifest import Manifest
from server_agent.adapters.refused_quota import apply_quota
from server_agent.catalogue import queries
from server_agent.catalogue.book import Book, Changes, Kept
from server_agent.catalogue.rows import Row, file_rows, group_row
from server_agent.intake.checks import Claim
from server_agent.intake.missing import ArchivedFile, ArchivedGroup, RecordingKey
from server_agent.intake.states import FileState, ManifestState

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedRegistry:
    """A registry as it was signed."""

    version: int
    content_sha256: str
    envelope: bytes


async def load_book(connection: AsyncConnection, claims: Sequence[Claim]) -> Book:
    """Return what the catalogue knows that bears on *claims*."""
    book = Book()
    manifests = [claim.manifest for claim in claims]
    for row in await _found(connection, queries.heads, {claim.dock for claim in claims}):
        book.heads[row.dock] = ChainHead(sequence=row.head_sequence, payload_sha256=row.head_sha256)
    places = {(claim.dock, claim.manifest.sequence) for claim in claims}
    for row in await _found_pairs(connection, queries.kept_at, places):
        book.by_place[row.dock, row.sequence] = _kept(row)
    ids = {manifest.manifest_id for manifest in manifests}
    for row in await _found(connection, queries.kept_as, ids):
        book.by_id[row.manifest_id] = _kept(row)
    recordings = {one.recording_id for manifest in manifests for one in manifest.recordings}
    for row in await _found(connection, queries.claimed, recordings):
        book.recordings[row.recording_id] = row.manifest_id
    dockings = {manifest.docking_id for manifest in manifests}
    for row in await _found(connection, queries.claimed_dockings, dockings):
        if ManifestState(row.state) in {ManifestState.ADMITTED, ManifestState.ARCHIVED}:
            book.dockings[row.docking_id, row.part] = row.manifest_id
    book.archived = await load_archived(connection, manifests)
    return book


async def load_archived(
    connection: AsyncConnection, manifests: Sequence[Manifest]
) -> dict[RecorderId, list[ArchivedGroup]]:
    """Return what is archived of the content that *manifests* promise, by recorder."""
    content = {
        (manifest.recorder.recorder_id, file.digests.sha256)
        for manifest in manifests
        for file in manifest.staged_files()
    }
    bags: dict[tuple[RecorderId, int], list[Found[Any]]] = defaultdict(list)
    for row in await _found_pairs(connection, queries.archived_content, content):
        bags[row.recorder, row.bag_id].append(row)
    archived: dict[RecorderId, list[ArchivedGroup]] = defaultdict(list)
    for (recorder, _), rows in bags.items():
        archived[recorder].append(_archived_group(rows))
    return archived


async def write_changes(connection: AsyncConnection, changes: Changes) -> list[Row]:
    """Write what came of a batch.

    Returns:
        As `keep_refused`.
    """
    for manifest_id in changes.deleted:
        await connection.execute(queries.forget_waiting(manifest_id))
    await _add(connection, queries.add_manifest(), changes.added)
    for row in changes.updated:
        await connection.execute(queries.change_manifest(), row)
    if changes.groups:
        rows = [group_row(claim, planned) for claim, planned in changes.groups]
        numbers = (await connection.execute(queries.add_groups(), rows)).scalars().all()
        files = [
            row
            for (claim, planned), group_id in zip(changes.groups, numbers, strict=True)
            for row in file_rows(claim, planned, group_id=group_id)
        ]
        await _add(connection, queries.add_files(), files)
    for dock, head in changes.heads.items():
        move, start = queries.move_head(
            dock, sequence=head.sequence, payload_sha256=head.payload_sha256
        )
        if (await connection.execute(move)).rowcount == 0:
            await connection.execute(start)
    return await keep_refused(connection, changes.refused)


async def keep_refused(connection: AsyncConnection, rows: Sequence[Row]) -> list[Row]:
    """Keep messages that were not admitted, and count how often each came.

    The same bytes on another topic, or refused for another reason, are another message.

    Returns:
        The rows that are new, each once.
    """
    refused = {_refused_key(row): row for row in rows}
    times = Counter(map(_refused_key, rows))
    digests = {digest for digest, _, _ in refused}
    known = {
        (row.sha256, row.topic, row.code)
        for row in await _found(connection, queries.refused_known, digests)
    }
    new = [row | {"times": times[key]} for key, row in refused.items() if key not in known]
    new = await apply_quota(connection, new)
    await _add(connection, queries.add_refused(), new)
    await _add(
        connection,
        queries.count_refused(),
        [
            {"key": digest, "on": topic, "why": code, "more": times[digest, topic, code]}
            for digest, topic, code in refused.keys() & known
        ],
    )
    return new


async def keep_alerts(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Keep alerts; one that has come before is the same alert."""
    by_id = {str(row["alert_id"]): row for row in reversed(rows)}
    known = {row.alert_id for row in await _found(connection, queries.alerts_known, by_id.keys())}
    await _add(
        connection,
        queries.add_alerts(),
        [row for alert_id, row in by_id.items() if alert_id not in known],
    )


async def load_waiting(
    connection: AsyncConnection, docks: Collection[DockId], *, limit: int
) -> list[bytes]:
    """Return envelopes of manifests whose turn has come, and of what follows them, in order."""
    rows = (await connection.execute(queries.next_waiting(docks, limit=limit))).all()
    return [row.envelope for row in rows]


async def load_waiting_docks(connection: AsyncConnection) -> frozenset[DockId]:
    """Return the docks that have manifests waiting."""
    return frozenset((await connection.execute(queries.waiting_docks())).scalars().all())


async def load_file_states(
    connection: AsyncConnection, ids: Collection[ManifestId]
) -> Mapping[ManifestId, Mapping[str, FileState]]:
    """Return where each file of some manifests stands, by SHA-256."""
    states: dict[ManifestId, dict[str, FileState]] = {one: {} for one in ids}
    for row in await _found(connection, queries.file_states, ids):
        states[row.manifest_id][row.sha256] = FileState(row.state)
    return states


async def load_receipts(
    connection: AsyncConnection, ids: Collection[ManifestId]
) -> Mapping[ManifestId, bytes]:
    """Return the receipts of those manifests that have one."""
    rows = await _found(connection, queries.receipts, ids)
    return {row.manifest_id: row.receipt for row in rows if row.receipt is not None}


async def load_registry(connection: AsyncConnection) -> IssuedRegistry | None:
    """Return the registry that was issued last."""
    row = (await connection.execute(queries.latest_registry())).one_or_none()
    if row is None:
        return None
    return IssuedRegistry(
        version=row.version, content_sha256=row.content_sha256, envelope=row.envelope
    )


async def record_registry(
    connection: AsyncConnection, issued: IssuedRegistry, *, now_utc: datetime
) -> None:
    """Keep a registry that is issued."""
    row = {
        "version": issued.version,
        "content_sha256": issued.content_sha256,
        "issued_at": now_utc,
        "envelope": issued.envelope,
    }
    await connection.execute(queries.add_registry(), row)


async def keep_certificates(
    connection: AsyncConnection,
    certificates: Mapping[KeyId, tuple[DockId, bytes]],
    now_utc: datetime,
) -> None:
    """Keep the certificates of docks' keys; one that is known stays as it is."""
    known = {
        row.key_id
        for row in await _found(connection, queries.certificates_known, certificates.keys())
    }
    await _add(
        connection,
        queries.add_certificates(),
        [
            {"key_id": key_id, "dock": dock, "certificate_pem": pem, "known_since": now_utc}
            for key_id, (dock, pem) in certificates.items()
            if key_id not in known
        ],
    )


async def _found(
    connection: AsyncConnection,
    query: Callable[[Collection[T]], Select[Any]],
    wanted: Collection[T],
) -> list[Found[Any]]:
    """Run a query about many values in as many statements as it takes."""
    rows: list[Found[Any]] = []
    for some in _slices(list(wanted), queries.LIST_LIMIT):
        rows += (await connection.execute(query(some))).all()
    return rows


async def _found_pairs(
    connection: AsyncConnection,
    query: Callable[[int], Select[Any]],
    wanted: Collection[tuple[object, object]],
) -> list[Found[Any]]:
    """Run a query about many pairs of values in as many statements as it takes."""
    rows: list[Found[Any]] = []
    for some in _slices(list(wanted), queries.PAIR_COUNTS[-1]):
        count = next(one for one in queries.PAIR_COUNTS if one >= len(some))
        found = await connection.execute(query(count), queries.pair_parameters(some, count))
        rows += found.all()
    return rows


async def _add(connection: AsyncConnection, statement: Any, rows: Sequence[Row]) -> None:
    if rows:
        await connection.execute(statement, list(rows))


def _slices(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _kept(row: Found[Any]) -> Kept:
    return Kept(
        manifest_id=row.manifest_id,
        dock=row.dock,
        sequence=row.sequence,
        payload_sha256=row.payload_sha256,
        state=ManifestState(row.state),
    )


def _refused_key(row: Row) -> tuple[str, str, str]:
    return str(row["sha256"]), str(row["topic"]), str(row["code"])


def _archived_group(rows: Sequence[Found[Any]]) -> ArchivedGroup:
    first = rows[0]
    recording = RecordingKey(
        started=first.started, recorded_on=first.recorded_on, officer=first.officer
    )
    return ArchivedGroup(
        bag_id=first.bag_id,
        count=first.files,
        recording=None if first.recording_id is None else recording,
        files={
            row.sha256: ArchivedFile(
                position=row.position, sha256=row.sha256, sm3=row.sm3, size_bytes=row.size_bytes
            )
            for row in rows
        },
    )
