"""Statements about the catalogue's tables; whoever has a connection runs them.

Nothing here is of one database only: PostgreSQL and SQLite take the same statements.
"""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    Delete,
    Insert,
    Select,
    String,
    Update,
    bindparam,
    column,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy import update as change
from sqlalchemy.sql.dml import ReturningInsert

from protocol.identifiers import DockId, DockingId, ManifestId, RecordingId
from server_agent.catalogue.tables import (
    alerts,
    bags,
    docks,
    files,
    groups,
    manifests,
    refused_messages,
    registries,
    signing_certificates,
)
from server_agent.intake.states import FileState, ManifestState

# Values in one list of a statement; SQLite takes 32,766 parameters.
LIST_LIMIT: Final = 5_000
# Pairs of values in one statement, which is compiled once for each of these counts. For a thousand
# pairs SQLite would rather make an index of its own than use ours: 10 s with a million files.
PAIR_COUNTS: Final = (16, 128)

_KEPT: Final = (
    manifests.c.manifest_id,
    manifests.c.dock,
    manifests.c.sequence,
    manifests.c.payload_sha256,
    manifests.c.state,
)


def heads(of_docks: Collection[DockId]) -> Select[Any]:
    """The ends of chains."""
    return select(docks.c.dock, docks.c.head_sequence, docks.c.head_sha256).where(
        docks.c.dock.in_(of_docks)
    )


@cache
def kept_at(count: int) -> Select[Any]:
    """The manifests that have so many (dock, number); the parameters are `pair_parameters`."""
    wanted = _pairs(("dock", String), ("sequence", BigInteger), count)
    return select(*_KEPT).join(
        wanted,
        (manifests.c.dock == wanted.c.dock) & (manifests.c.sequence == wanted.c.sequence),
    )


def kept_as(ids: Collection[ManifestId]) -> Select[Any]:
    """The manifests that have these ids."""
    return select(*_KEPT).where(manifests.c.manifest_id.in_(ids))


def claimed(recordings: Collection[RecordingId]) -> Select[Any]:
    """Which of these recordings have been claimed, and by which manifest."""
    return select(groups.c.recording_id, groups.c.manifest_id).where(
        groups.c.recording_id.in_(recordings)
    )


@cache
def archived_content(count: int) -> Select[Any]:
    """The archived files with so many (recorder, SHA-256), and what their bags were made for.

    The parameters are `pair_parameters`.
    """
    wanted = _pairs(("recorder", String), ("sha256", String), count)
    return (
        select(
            files.c.recorder,
            files.c.position,
            files.c.sha256,
            files.c.sm3,
            files.c.size_bytes,
            groups.c.recording_id,
            groups.c.started,
            groups.c.recorded_on,
            groups.c.officer,
            bags.c.bag_id,
            bags.c.files,
        )
        .select_from(wanted)
        .join(files, (files.c.recorder == wanted.c.recorder) & (files.c.sha256 == wanted.c.sha256))
        .join(groups, files.c.group_id == groups.c.group_id)
        .join(bags, groups.c.bag_id == bags.c.bag_id)
        .where(
            files.c.state == FileState.ARCHIVED.value,
            groups.c.existing.is_(False),
            bags.c.damaged_at.is_(None),
        )
    )


def claimed_dockings(ids: Collection[DockingId]) -> Select[Any]:
    """The manifests of these dockings: which part each claims, and its state.

    Asked for by state as well, SQLite would read all that were ever admitted.
    """
    return select(
        manifests.c.docking_id, manifests.c.part, manifests.c.manifest_id, manifests.c.state
    ).where(manifests.c.docking_id.in_(ids))


def next_waiting(of_docks: Collection[DockId], *, limit: int) -> Select[Any]:
    """Manifests that wait, of docks where the first that waits is the next of its chain."""
    ready = (
        select(manifests.c.dock)
        .join(docks, manifests.c.dock == docks.c.dock)
        .where(
            manifests.c.dock.in_(of_docks),
            manifests.c.state == ManifestState.WAITING.value,
            manifests.c.sequence == docks.c.head_sequence + 1,
        )
    )
    return (
        select(manifests.c.dock, manifests.c.sequence, manifests.c.envelope)
        .where(
            manifests.c.dock.in_(ready),
            manifests.c.state == ManifestState.WAITING.value,
        )
        .order_by(manifests.c.sequence)
        .limit(limit)
    )


def waiting_docks() -> Select[Any]:
    """The docks that have manifests waiting."""
    return (
        select(manifests.c.dock).where(manifests.c.state == ManifestState.WAITING.value).distinct()
    )


def add_manifest() -> Insert:
    """A manifest's first row."""
    return insert(manifests)


def change_manifest() -> Update:
    """A later verdict about the manifest ``key``; the other parameters are its columns."""
    return change(manifests).where(manifests.c.manifest_id == bindparam("key"))


def forget_waiting(manifest_id: ManifestId) -> Delete:
    """Free the place of a manifest that waited and does not follow."""
    return delete(manifests).where(
        manifests.c.manifest_id == manifest_id,
        manifests.c.state == ManifestState.WAITING.value,
    )


def move_head(dock: DockId, *, sequence: int, payload_sha256: str) -> tuple[Update, Insert]:
    """A chain's new end: the second statement where the first finds no row."""
    values = {"head_sequence": sequence, "head_sha256": payload_sha256}
    return (
        change(docks).where(docks.c.dock == dock).values(values),
        insert(docks).values(dock=dock, **values),
    )


def add_groups() -> ReturningInsert[Any]:
    """Groups; it answers their numbers, in the order of the rows."""
    return insert(groups).returning(groups.c.group_id, sort_by_parameter_order=True)


def add_files() -> Insert:
    """Files of groups."""
    return insert(files)


def add_refused() -> Insert:
    """Messages that were not admitted."""
    return insert(refused_messages)


def add_alerts() -> Insert:
    """Alerts."""
    return insert(alerts)


def add_registry() -> Insert:
    """A registry that is issued."""
    return insert(registries)


def add_certificates() -> Insert:
    """Certificates of docks' signing keys."""
    return insert(signing_certificates)


def certificates_known(key_ids: Collection[str]) -> Select[Any]:
    """Which of these keys have a certificate."""
    return select(signing_certificates.c.key_id).where(signing_certificates.c.key_id.in_(key_ids))


def refused_known(digests: Collection[str]) -> Select[Any]:
    """Where and why these messages were refused before."""
    return select(
        refused_messages.c.sha256, refused_messages.c.topic, refused_messages.c.code
    ).where(refused_messages.c.sha256.in_(digests))


def count_refused() -> Update:
    """The message ``key`` came ``more`` times again, refused on ``on`` because of ``why``."""
    return (
        change(refused_messages)
        .where(
            refused_messages.c.sha256 == bindparam("key"),
            refused_messages.c.topic == bindparam("on"),
            refused_messages.c.code == bindparam("why"),
        )
        .values(times=refused_messages.c.times + bindparam("more"))
    )


def alerts_known(ids: Collection[str]) -> Select[Any]:
    """Which of these alerts have come before."""
    return select(alerts.c.alert_id).where(alerts.c.alert_id.in_(ids))


def file_states(ids: Collection[ManifestId]) -> Select[Any]:
    """Where the files of manifests stand."""
    return select(files.c.manifest_id, files.c.sha256, files.c.state).where(
        files.c.manifest_id.in_(ids)
    )


def receipts(ids: Collection[ManifestId]) -> Select[Any]:
    """The receipts of manifests."""
    return select(manifests.c.manifest_id, manifests.c.receipt).where(
        manifests.c.manifest_id.in_(ids)
    )


def latest_registry() -> Select[Any]:
    """The registry that docks obey."""
    return select(registries).order_by(registries.c.version.desc()).limit(1)


def certificate(key_id: str) -> Select[Any]:
    """The certificate of a key that signed a manifest."""
    return select(signing_certificates.c.certificate_pem).where(
        signing_certificates.c.key_id == key_id
    )


def pair_parameters(pairs: Sequence[tuple[object, object]], count: int) -> dict[str, object]:
    """Return the parameters of a statement about *count* pairs, of which NULL fills up the rest."""
    nothing = [(None, None)] * (count - len(pairs))
    return {
        f"{name}{number}": value
        for number, pair in enumerate([*pairs, *nothing])
        for name, value in zip(("first", "second"), pair, strict=True)
    }


def _pairs(
    first: tuple[str, type[String]], second: tuple[str, type[String | BigInteger]], count: int
) -> CTE:
    """A table of pairs to join with: SQLite uses no index for a list of pairs after IN.

    Written by hand, and compiled once for each count: SQLAlchemy's own `values` is compiled again
    each time, which takes fifty times as long as SQLite takes to look them up.
    """
    named = [
        (f"{name}{number}", type_)
        for number in range(count)
        for name, (_, type_) in (("first", first), ("second", second))
    ]
    rows = ", ".join(f"(:first{number}, :second{number})" for number in range(count))
    # Both databases call the columns of VALUES so.
    wanted = f"SELECT column1 AS {first[0]}, column2 AS {second[0]} FROM (VALUES {rows}) AS pairs"  # noqa: S608 -- names of ours
    return (
        text(wanted)
        .bindparams(*(bindparam(name, type_=type_) for name, type_ in named))
        .columns(*(column(name, type_) for name, type_ in (first, second)))
        .cte("wanted")
    )
