"""The catalogue's side of matches: groups that wait until a bag that stands was read again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.identifiers import ManifestId, RecordingId
from server_agent.adapters.bag_records import IncomingEntry, entry_of
from server_agent.catalogue import bag_queries
from server_agent.catalogue.rows import BagFacts
from server_agent.intake.states import FileState


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedGroup:
    """A group that waits for a bag."""

    group_id: int
    manifest_id: ManifestId
    recording_id: RecordingId | None


async def match_group(connection: AsyncConnection, group_id: int, bag_id: int) -> None:
    """Let a group wait for a bag, unless it has one."""
    await connection.execute(bag_queries.match_group(group_id, bag_id))


async def load_matched_bags(connection: AsyncConnection) -> list[int]:
    """Return the numbers of the bags that groups wait for."""
    return list((await connection.execute(bag_queries.matched_bags())).scalars().all())


async def load_matched(
    connection: AsyncConnection, bag_id: int, *, limit: int
) -> tuple[BagFacts, list[MatchedGroup]]:
    """Return a bag, and the groups that wait for it, the oldest first."""
    bag = (await connection.execute(bag_queries.bag(bag_id))).one()
    rows = (await connection.execute(bag_queries.matched_groups(bag_id, limit=limit))).all()
    return (
        BagFacts(bag_id=bag.bag_id, path=bag.path, tagmanifest_sha256=bag.tagmanifest_sha256),
        [
            MatchedGroup(
                group_id=row.group_id, manifest_id=row.manifest_id, recording_id=row.recording_id
            )
            for row in rows
        ],
    )


async def confirm_matches(
    connection: AsyncConnection, bag_id: int, groups: Sequence[MatchedGroup]
) -> list[IncomingEntry]:
    """Let groups stand in the bag that they waited for.

    Returns:
        Those of their files that had arrived by themselves: copies that nobody needs.
    """
    ids = [one.group_id for one in groups]
    names = await _names_in(connection, bag_id)
    files = (await connection.execute(bag_queries.files_of_groups(ids))).all()
    entries = [entry_of(row) for row in files]
    renamed = [
        {"key": one.file_id, "name": names[one.digests.sha256]}
        for one in entries
        if one.safe_name != names[one.digests.sha256]
    ]
    if renamed:
        await connection.execute(bag_queries.rename_file(), renamed)
    await connection.execute(bag_queries.confirm_groups(ids, bag_id))
    await connection.execute(bag_queries.confirm_files(ids))
    return [one for one in entries if one.state is FileState.ARRIVED]


async def forget_matches(
    connection: AsyncConnection,
    bag_id: int,
    groups: Sequence[MatchedGroup],
    *,
    now_utc: datetime,
) -> None:
    """Let nothing be matched to a bag any more, and *groups* wait for it no longer."""
    await connection.execute(bag_queries.mark_damaged(bag_id, now_utc))
    for statement in bag_queries.forget_matches([one.group_id for one in groups]):
        await connection.execute(statement)


async def load_envelopes(connection: AsyncConnection, ids: Collection[ManifestId]) -> list[bytes]:
    """Return the envelopes of manifests."""
    return list((await connection.execute(bag_queries.envelopes_of(ids))).scalars().all())


async def _names_in(connection: AsyncConnection, bag_id: int) -> Mapping[str, str]:
    rows = (await connection.execute(bag_queries.names_in_bag(bag_id))).all()
    return {row.sha256: row.safe_name for row in rows}
