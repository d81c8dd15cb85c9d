"""The catalogue, read only: what the pages show of it."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, and_, func, select, true
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from server_agent.catalogue.tables import (
    alerts,
    attestations,
    bags,
    files,
    groups,
    manifests,
    refused_messages,
    registries,
)
from server_agent.console.records import (
    AlertRecord,
    AttestationRecord,
    ClipRecord,
    Names,
    RecordingDetail,
    RecordingRecord,
    SiteFacts,
    Wanted,
    attestation_in,
    manifest_in,
    names_in,
    receipt_in,
)

ALERTS_SHOWN: Final = 40
PAGE_ROWS: Final = 50

_REMEMBERED: Final = 512


def open_catalogue(url: URL) -> AsyncEngine:
    """Return an engine that cannot write; the caller disposes of it."""
    options: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        options["execution_options"] = {"postgresql_readonly": True}
    return create_async_engine(url, **options)


class CatalogueReader:
    """The pages' queries; each may raise SQLAlchemyError, a damaged envelope ProtocolError."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._names = Names()
        self._evidence: OrderedDict[str, str] = OrderedDict()

    async def read_site(self, *, now_utc: datetime) -> SiteFacts:
        """Return what the live page shows beside what is live."""
        async with self._engine.connect() as connection:
            await self._refresh_names(connection)
            rows = await connection.execute(
                select(alerts)
                .where(alerts.c.over_at.is_(None))
                .order_by(alerts.c.raised_at.desc())
                .limit(ALERTS_SHOWN)
            )
            newest = tuple(map(_alert, rows.mappings()))
            total = await connection.scalar(
                select(func.count()).select_from(alerts).where(alerts.c.over_at.is_(None))
            )
            refused = await connection.scalar(
                select(func.coalesce(func.sum(refused_messages.c.times), 0))
            )
            counted = await connection.execute(
                select(manifests.c.state, func.count()).group_by(manifests.c.state)
            )
            states = {str(state): int(count) for state, count in counted}
        return SiteFacts(
            names=self._names,
            read_at_utc=now_utc,
            alerts=newest,
            alerts_total=total or 0,
            refused_messages=int(refused or 0),
            refused_manifests=states.get("refused", 0),
            waiting_manifests=states.get("waiting", 0),
            open_manifests=states.get("admitted", 0),
        )

    async def alerts_of(
        self, dock: str, *, bay: int | None, offset: int
    ) -> tuple[tuple[AlertRecord, ...], int]:
        """Return PAGE_ROWS alerts of a dock or of one bay, newest first, and how many there are."""
        where = and_(alerts.c.dock == dock, true() if bay is None else alerts.c.bay == bay)
        query = select(alerts).where(where).order_by(alerts.c.raised_at.desc(), alerts.c.alert_id)
        async with self._engine.connect() as connection:
            rows = await connection.execute(query.limit(PAGE_ROWS).offset(offset))
            found = tuple(map(_alert, rows.mappings()))
            total = await connection.scalar(select(func.count()).select_from(alerts).where(where))
        return found, total or 0

    async def attestations_of(
        self, dock: str, *, offset: int, limit: int = PAGE_ROWS
    ) -> tuple[tuple[AttestationRecord, ...], int]:
        """Return so many attestations of a dock, newest first, and how many there are."""
        where = attestations.c.dock == dock
        query = (
            select(
                attestations.c.envelope,
                attestations.c.payload_sha256,
                attestations.c.received_at,
            )
            .where(where)
            .order_by(attestations.c.sequence.desc())
        )
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query.limit(limit).offset(offset))).all()
            total = await connection.scalar(
                select(func.count()).select_from(attestations).where(where)
            )
        found = tuple(
            AttestationRecord(
                attestation=attestation_in(row.envelope),
                payload_sha256=row.payload_sha256,
                received_at_utc=row.received_at,
            )
            for row in rows
        )
        return found, total or 0

    async def find_attestation(self, dock: str, number: int) -> bytes | None:
        """Return the exact envelope of a dock's attestation of that number."""
        query = select(attestations.c.envelope).where(
            attestations.c.dock == dock, attestations.c.sequence == number
        )
        async with self._engine.connect() as connection:
            envelope: bytes | None = await connection.scalar(query)
        return envelope

    async def names(self) -> Names:
        """Return how numbers are called in the newest registry."""
        async with self._engine.connect() as connection:
            await self._refresh_names(connection)
        return self._names

    async def list_recordings(
        self, wanted: Wanted, *, offset: int
    ) -> tuple[tuple[RecordingRecord, ...], int]:
        """Return PAGE_ROWS archived recordings, newest first, and how many there are in all."""
        where = _where(wanted)
        query = (
            _recordings()
            .where(where)
            .order_by(
                groups.c.recorded_on.desc(), groups.c.started.desc(), groups.c.group_id.desc()
            )
            .limit(PAGE_ROWS)
            .offset(offset)
        )
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
            total = await connection.scalar(
                select(func.count()).select_from(groups).where(where, _archived())
            )
            evidence = await self._evidence_of(connection, [row["manifest_id"] for row in rows])
        return tuple(_recording(row, evidence) for row in rows), total or 0

    async def find_recording(self, recording_id: str, wanted: Wanted) -> RecordingDetail | None:
        """Return one archived recording, if *wanted* allows it."""
        query = (
            _recordings()
            .add_columns(
                groups.c.group_id,
                groups.c.dock,
                bags.c.archived_at,
                manifests.c.bay,
                manifests.c.sequence,
                manifests.c.envelope,
                manifests.c.receipt,
            )
            .join(manifests, manifests.c.manifest_id == groups.c.manifest_id)
            .where(_where(wanted), groups.c.recording_id == recording_id)
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                return None
            listed = await connection.execute(
                select(files)
                .where(files.c.group_id == row["group_id"])
                .order_by(files.c.position, files.c.file_id)
            )
            clips = tuple(map(_clip, listed.mappings()))
        manifest = manifest_in(row["envelope"])
        receipt = None if row["receipt"] is None else receipt_in(row["receipt"])
        evidence = {row["manifest_id"]: manifest.evidence_level.value}
        return RecordingDetail(
            recording=_recording(row, evidence),
            clips=clips,
            dock=row["dock"],
            bay=row["bay"],
            sequence=row["sequence"],
            archived_at_utc=row["archived_at"],
            manifest=manifest,
            receipt=receipt,
        )

    async def find_file(self, file_id: int) -> tuple[str, str] | None:
        """Return an archived file's bag, relative to the archive, and its name below ``data/``."""
        query = (
            select(bags.c.path, files.c.safe_name)
            .select_from(files)
            .join(groups, groups.c.group_id == files.c.group_id)
            .join(bags, bags.c.bag_id == groups.c.bag_id)
            .where(files.c.file_id == file_id, _archived())
        )
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else (row[0], row[1])

    async def _refresh_names(self, connection: AsyncConnection) -> None:
        version = await connection.scalar(select(func.max(registries.c.version)))
        if version is None or version == self._names.version:
            return
        envelope = await connection.scalar(
            select(registries.c.envelope).where(registries.c.version == version)
        )
        if envelope is not None:
            self._names = replace(names_in(envelope), version=version)

    async def _evidence_of(
        self, connection: AsyncConnection, manifest_ids: Sequence[str]
    ) -> Mapping[str, str]:
        """Return the evidence level of each manifest; parsed once, it never changes."""
        missing = {one for one in manifest_ids if one not in self._evidence}
        if missing:
            rows = await connection.execute(
                select(manifests.c.manifest_id, manifests.c.envelope).where(
                    manifests.c.manifest_id.in_(missing)
                )
            )
            for manifest_id, envelope in rows:
                self._evidence[manifest_id] = manifest_in(envelope).evidence_level.value
        found = {one: self._evidence[one] for one in manifest_ids}
        while len(self._evidence) > _REMEMBERED:
            self._evidence.popitem(last=False)
        return found


def _archived() -> Any:
    return and_(groups.c.bag_id.is_not(None), groups.c.recording_id.is_not(None))


def _recordings() -> Select[Any]:
    clips = (
        select(func.count())
        .select_from(files)
        .where(files.c.group_id == groups.c.group_id)
        .scalar_subquery()
    )
    return (
        select(
            groups.c.recording_id,
            groups.c.recorder,
            groups.c.officer,
            groups.c.recorded_on,
            groups.c.started,
            groups.c.marked,
            groups.c.complete,
            groups.c.manifest_id,
            bags.c.path,
            bags.c.tagmanifest_sha256,
            bags.c.size_bytes,
            bags.c.damaged_at,
            clips.label("clips"),
        )
        .select_from(groups)
        .join(bags, bags.c.bag_id == groups.c.bag_id)
        .where(_archived())
    )


def _where(wanted: Wanted) -> Any:
    asked = (
        (groups.c.recorded_on, wanted.day),
        (groups.c.officer, wanted.officer),
        (groups.c.recorder, wanted.recorder),
        (groups.c.officer, wanted.own),
    )
    return and_(true(), *(column == value for column, value in asked if value is not None))


def _recording(row: Any, evidence: Mapping[str, str]) -> RecordingRecord:
    return RecordingRecord(
        recording_id=row["recording_id"],
        recorder=row["recorder"],
        officer=row["officer"],
        recorded_on=row["recorded_on"],
        started=row["started"],
        marked=row["marked"],
        complete=row["complete"],
        clips=row["clips"],
        size_bytes=row["size_bytes"],
        bag_path=row["path"],
        bag_sha256=row["tagmanifest_sha256"],
        manifest_id=row["manifest_id"],
        evidence=evidence.get(row["manifest_id"]),
        damaged_at_utc=row["damaged_at"],
    )


def _clip(row: Any) -> ClipRecord:
    return ClipRecord(
        file_id=row["file_id"],
        position=row["position"],
        original_name=row["path"],
        safe_name=row["safe_name"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        sm3=row["sm3"],
        kind=row["kind"],
        started=row["started"],
        marked=row["marked"],
    )


def _alert(row: Any) -> AlertRecord:
    facts = row["facts"] if isinstance(row["facts"], dict) else {}
    return AlertRecord(
        alert_id=row["alert_id"],
        dock=row["dock"],
        bay=row["bay"],
        recorder=row["recorder"],
        code=row["code"],
        text=row["text"],
        facts=tuple(sorted((str(name), str(value)) for name, value in facts.items())),
        raised_at_utc=row["raised_at"],
        over_at_utc=row["over_at"],
    )
