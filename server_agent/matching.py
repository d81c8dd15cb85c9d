"""Content that is archived already: vouched for again only after its bag was read again.

A group whose content a bag holds, by the catalogue, *matches* that bag: its bytes are not asked
for, and it waits. The bag is then read from the disk, every byte of it; one reading is for all the
groups that were waiting when it began. If the bag is right, they stand in it. If it is not, nothing
is matched to it any more, and the docks are asked for the bytes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

import structlog

from protocol.identifiers import ManifestId
from server_agent.adapters.bag_records import CompleteGroup, IncomingEntry
from server_agent.adapters.bag_writer import BagWriter
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import load_archived
from server_agent.adapters.custody_records import append_entries
from server_agent.adapters.match_records import (
    MatchedGroup,
    confirm_matches,
    forget_matches,
    load_envelopes,
    load_matched,
    load_matched_bags,
    match_group,
)
from server_agent.adapters.upload_slots import in_thread
from server_agent.adapters.uploads import Uploads
from server_agent.alarms import Alarms
from server_agent.arrivals import Arrivals
from server_agent.catalogue.rows import BagFacts
from server_agent.custody import CustodyLog
from server_agent.intake.checks import Claim
from server_agent.intake.missing import find_match, groups_of, recording_key
from server_agent.ledger.custody import Logged, log_bag
from server_agent.receipting import issue_receipts, read_own
from server_agent.signing import Answer, Signer

_DAMAGED: Final = "E-ARC-106"
_AT_ONCE: Final = 5_000
# One transaction's; others want to write as well.
_TOGETHER: Final = 200

_log = structlog.get_logger(__name__)


class Matches:
    """The groups that wait until a bag that stands was read again."""

    def __init__(
        self,
        store: CatalogueStore,
        bags: BagWriter,
        uploads: Uploads,
        *,
        signer: Signer,
        alarms: Alarms,
        arrivals: Arrivals,
        matched: Arrivals,
        publish: Callable[[Answer], None],
        ask_again: Callable[[Claim], Awaitable[None]],
        custody: CustodyLog,
    ) -> None:
        """Confirm what matches.

        Args:
            store: The catalogue.
            bags: The archive's tree.
            uploads: Knows where the copies of files are that came twice.
            signer: Signs receipts.
            alarms: Told of bags that are not what they were.
            arrivals: Takes the numbers of groups that can become bags of their own.
            matched: Gives the numbers of bags that groups wait for, each time one begins to.
            publish: Takes an answer for its dock.
            ask_again: Tells a dock what is missing of a manifest.
            custody: Says when a receipt may be sent.
        """
        self._store = store
        self._bags = bags
        self._uploads = uploads
        self._signer = signer
        self._alarms = alarms
        self._arrivals = arrivals
        self._publish = publish
        self._ask_again = ask_again
        self._custody = custody
        self._matched = matched
        self._turns: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Read bags again until cancelled."""
        while True:
            bag_id = await self._matched.get()
            async with self._alarms.outliving("read a bag again"):
                await self.confirm(bag_id)

    async def sweep(self) -> None:
        """Take up what an earlier run, or an earlier try, left waiting."""
        async with self._store.reading() as connection:
            for bag_id in await load_matched_bags(connection):
                self._matched.put_nowait(bag_id)

    @contextlib.asynccontextmanager
    async def turn(self, group: CompleteGroup, claim: Claim) -> AsyncIterator[None]:
        """Be the only one, for the length of the block, who archives such content.

        Of two groups with the same content the second then finds the first one's bag.
        """
        digests = sorted(one.digests.sha256 for one in group.files)
        key = (claim.manifest.recorder.recorder_id, *digests)
        lock = self._turns.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    async def find(self, group: CompleteGroup, claim: Claim) -> bool:
        """Return whether a group that is about to become a bag matches one that stands by now.

        If so it waits for that bag to be read again.
        """
        manifest = claim.manifest
        async with self._store.reading() as connection:
            archived = await load_archived(connection, [manifest])
        [wanted] = (
            one
            for one in groups_of(manifest)
            if (one.recording.recording_id if one.recording else None) == group.recording_id
        )
        key = recording_key(manifest, wanted.recording) if wanted.recording else None
        bag_id = find_match(wanted, key, archived.get(manifest.recorder.recorder_id, []))
        if bag_id is None:
            return False
        async with self._store.writing() as connection:
            await match_group(connection, group.group_id, bag_id)
        self._matched.put_nowait(bag_id)
        return True

    async def confirm(self, bag_id: int) -> None:
        """Read a bag again, for all groups that wait for it now.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: Our catalogue or disk failed; the groups go on
                waiting.
        """
        async with self._store.reading() as connection:
            bag, waiting = await load_matched(connection, bag_id, limit=_AT_ONCE)
        if not waiting:
            return
        if len(waiting) == _AT_ONCE:
            self._matched.put_nowait(bag_id)
        damage = await in_thread(
            partial(self._bags.find_damage, bag.path, tagmanifest_sha256=bag.tagmanifest_sha256)
        )
        if damage is None:
            _log.info("bag read again", path=bag.path, groups=len(waiting))
            for some in _slices(waiting):
                await self._stand(bag, some)
        else:
            await self._part(bag, waiting, damage)

    async def _stand(self, bag: BagFacts, groups: Sequence[MatchedGroup]) -> None:
        manifests = _manifests(groups)
        async with self._store.writing() as connection:
            copies = await confirm_matches(connection, bag.bag_id, groups)
            await append_entries(connection, self._entries(bag, groups))
            answers = await issue_receipts(connection, manifests, signer=self._signer)
        for answer in await self._custody.covered(answers):
            self._publish(answer)
        async with self._alarms.outliving("remove copies", bag=bag.path):
            await in_thread(partial(self._clear_incoming, copies, manifests))

    def _entries(self, bag: BagFacts, groups: Sequence[MatchedGroup]) -> list[Logged]:
        now_utc = self._signer.clock()
        return [
            log_bag(
                one.manifest_id,
                one.recording_id,
                tagmanifest_sha256=bag.tagmanifest_sha256,
                existing=True,
                now_utc=now_utc,
            )
            for one in groups
        ]

    async def _part(self, bag: BagFacts, groups: Sequence[MatchedGroup], damage: str) -> None:
        """Forget that *groups* match a bag that is not what it was, and ask for their bytes."""
        manifests = _manifests(groups)
        async with self._store.writing() as connection:
            now_utc = self._signer.clock()
            await forget_matches(connection, bag.bag_id, groups, now_utc=now_utc)
        await self._alarms.sound(
            _DAMAGED,
            "A bag of the archive is damaged or gone; docks are asked for its content again.",
            {"bag": bag.path, "problem": damage, "manifests": str(len(manifests))},
            once_per=(bag.path,),
        )
        for group in groups:
            self._arrivals.put_nowait(group.group_id)
        for manifest_id in manifests:
            async with self._alarms.outliving("ask for files again", manifest=manifest_id):
                async with self._store.reading() as connection:
                    [envelope] = await load_envelopes(connection, [manifest_id])
                await self._ask_again(read_own(envelope))

    def _clear_incoming(
        self, copies: Sequence[IncomingEntry], manifests: Sequence[ManifestId]
    ) -> None:
        for entry in copies:
            self._uploads.path_of(entry).unlink(missing_ok=True)
        for manifest_id in manifests:
            self._bags.forget_incoming(manifest_id)


def _manifests(groups: Sequence[MatchedGroup]) -> list[ManifestId]:
    return list(dict.fromkeys(one.manifest_id for one in groups))


def _slices(groups: Sequence[MatchedGroup]) -> Iterator[Sequence[MatchedGroup]]:
    for start in range(0, len(groups), _TOGETHER):
        yield groups[start : start + _TOGETHER]
