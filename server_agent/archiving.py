"""From files that have arrived to bags, and from bags to receipts."""

import asyncio
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from protocol.identifiers import ManifestId
from protocol.receipt import ArchivedBag
from runtime.errors import Retry
from server_agent.adapters.bag_errors import UnexpectedFileError
from server_agent.adapters.bag_records import (
    CompleteGroup,
    IncomingEntry,
    load_arrived,
    load_bagged,
    load_certificate,
    load_complete_group,
    load_complete_groups,
    load_missing,
    load_states,
    load_unreceipted,
    mark_file,
    record_bag,
)
from server_agent.adapters.bag_writer import BagWriter
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.chain_records import load_book, load_file_states
from server_agent.adapters.custody_records import append_entries
from server_agent.adapters.upload_slots import in_thread
from server_agent.adapters.uploads import Uploads
from server_agent.alarms import Alarms
from server_agent.archive.layout import bag_path, docking_bag_path
from server_agent.archive.request import BagFile, BagRequest
from server_agent.arrivals import Arrivals
from server_agent.catalogue.rows import docked_on
from server_agent.custody import CustodyLog
from server_agent.errors import (
    KeptManifestError,
    ReadBackError,
    ServerError,
    UnknownSignerError,
)
from server_agent.intake.checks import Claim
from server_agent.intake.missing import missing_files
from server_agent.intake.states import FileState, ManifestState
from server_agent.ledger import statements
from server_agent.ledger.custody import log_bag
from server_agent.matching import Matches
from server_agent.receipting import issue_receipts, read_own
from server_agent.signing import Answer, Signer

# Reading back is the disk's work: more at a time would only make each take longer.
_CLOSING_AT_ONCE: Final = 2
_DISK_FAILED: Final = "E-ARC-105"

_log = structlog.get_logger(__name__)


class Archiver:
    """Closes the bags of groups whose files have all arrived."""

    def __init__(
        self,
        store: CatalogueStore,
        bags: BagWriter,
        uploads: Uploads,
        *,
        signer: Signer,
        alarms: Alarms,
        ca_pem: bytes,
        arrivals: Arrivals,
        matched: Arrivals,
        publish: Callable[[Answer], None],
        custody: CustodyLog,
    ) -> None:
        """Archive what arrives.

        Args:
            store: The catalogue.
            bags: The archive's tree.
            uploads: Told which files have to come again.
            signer: Signs receipts.
            alarms: Told what keeps a bag from being closed.
            ca_pem: The site's authority; each bag carries it.
            arrivals: Numbers of groups that a file has arrived of.
            matched: Numbers of bags that a group was matched to.
            publish: Takes an answer for its dock; it may be lost, for the dock asks again.
            custody: Says when a receipt may be sent.
        """
        self._store = store
        self._bags = bags
        self._uploads = uploads
        self._signer = signer
        self._alarms = alarms
        self._ca_pem = ca_pem
        self._arrivals = arrivals
        self._publish = publish
        self._custody = custody
        self._closing: set[int] = set()
        self._asked_again: set[int] = set()
        # Trying again helps only after a person has helped, and restarted us.
        self._given_up: set[int] = set()
        self.matches = Matches(
            store,
            bags,
            uploads,
            signer=signer,
            alarms=alarms,
            arrivals=arrivals,
            matched=matched,
            publish=publish,
            ask_again=self._ask_again,
            custody=custody,
        )

    async def run(self) -> None:
        """Close bags until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for number in range(_CLOSING_AT_ONCE):
                workers.create_task(self._work(), name=f"archiver {number}")
            workers.create_task(self.matches.run(), name="matches")

    async def reconcile(self) -> None:
        """Take up what an earlier run left; before anything is received.

        A step that our disk or catalogue keeps from being done is an alarm, and holds up no other.
        """
        for name, step in (
            ("look for lost files", self._find_lost),
            ("take back sealed files", self._take_back_sealed),
            ("tidy .incoming", self._tidy_incoming),
            ("sweep", self.sweep),
        ):
            async with self._alarms.outliving(name):
                await step()

    async def _find_lost(self) -> None:
        async with self._store.reading() as connection:
            arrived = await load_arrived(connection)
            complete = set(await load_complete_groups(connection))
        # Complete groups are checked, byte by byte, when their bags are closed.
        held = [entry for entry in arrived if entry.group_id not in complete]
        lost = await in_thread(lambda: [one for one in held if not self._is_whole(one)])
        if lost:
            await self._want_again(lost)
            await self._alarms.sound(
                ReadBackError.code,
                "Files that had arrived are not there any more; docks have to send them again.",
                {"files": str(len(lost)), "first": lost[0].digests.sha256},
            )

    async def _take_back_sealed(self) -> None:
        """Have files sent again that a crash left between "missing" and their removal.

        Closing a bag has taken their write bits, so nothing can be added to them; their dock
        believes that all of it was sent.
        """
        async with self._store.reading() as connection:
            missing = await load_missing(connection)
        sealed = await in_thread(lambda: [one for one in missing if self._is_sealed(one)])
        for entry in sealed:
            await self._uploads.forget(entry)
        for manifest_id in dict.fromkeys(one.manifest_id for one in sealed):
            async with self._alarms.outliving("ask for files again", manifest=manifest_id):
                async with self._store.reading() as connection:
                    found = await load_unreceipted(connection, manifest_id)
                if found is not None:
                    await self._ask_again(read_own(found[0]))

    async def sweep(self) -> None:
        """Try once more what failed: receipts that are due, bags that can be closed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The catalogue cannot be read.
        """
        await self._receipt_bagged()
        async with self._store.reading() as connection:
            for group_id in await load_complete_groups(connection):
                if group_id not in self._given_up:
                    self._arrivals.put_nowait(group_id)
        await self.matches.sweep()

    async def _work(self) -> None:
        while True:
            group_id = await self._arrivals.get()
            if group_id in self._closing:
                self._asked_again.add(group_id)
                continue
            self._closing.add(group_id)
            try:
                async with self._alarms.outliving("close a bag"):
                    await self.close(group_id)
            finally:
                self._closing.discard(group_id)
                if group_id in self._asked_again:
                    self._asked_again.discard(group_id)
                    self._arrivals.put_nowait(group_id)

    async def close(self, group_id: int) -> None:
        """Close the bag of a group, if its files have all arrived and it has none yet.

        What keeps this bag from being closed raises an alarm, not an exception.

        Args:
            group_id: In one task at a time.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: Our catalogue or disk failed under what comes
                before or after; the next sweep tries again.
        """
        async with self._store.reading() as connection:
            group = await load_complete_group(connection, group_id)
        if group is None:
            return
        facts = {"manifest": group.manifest_id, "recording": group.recording_id or ""}
        try:
            claim = read_own(group.envelope)
        except KeptManifestError as error:
            await self._alarms.sound(error.code, "A kept manifest cannot be read.", facts)
            self._given_up.add(group_id)
            return
        async with self.matches.turn(group, claim):
            await self._close(group, claim, facts)

    async def _close(self, group: CompleteGroup, claim: Claim, facts: dict[str, str]) -> None:
        try:
            request = await self._request(group, claim)
            stands = await in_thread(partial(self._bags.stands, request))
            if not stands and await self.matches.find(group, claim):
                return
            bag = await in_thread(partial(self._bags.close_bag, request))
        except ReadBackError as error:
            wrong = [one for one in group.files if one.safe_name in error.safe_names]
            await self._want_again(wrong or group.files)
            await self._alarms.sound(
                error.code,
                "Files read back from the archive's disk differ; the dock has to send them again.",
                facts | {"files": ", ".join(error.safe_names)},
            )
            await self._ask_again(claim)
        except ServerError as error:
            await self._alarms.sound(error.code, f"A bag cannot be closed: {error}"[:500], facts)
            if error.retry is Retry.NEVER:
                self._given_up.add(group.group_id)
        except OSError as error:
            _log.exception("our disk failed under a bag", **facts)
            await self._alarms.sound(
                _DISK_FAILED,
                "The archive's disk failed under a bag; it is tried again.",
                facts | {"error": error.strerror or repr(error)},
            )
        else:
            await self._record(group, bag)

    async def _record(self, group: CompleteGroup, bag: ArchivedBag) -> None:
        async with self._store.writing() as connection:
            now_utc = self._signer.clock()
            await record_bag(connection, group.group_id, bag, now_utc=now_utc)
            entry = log_bag(
                group.manifest_id,
                group.recording_id,
                tagmanifest_sha256=bag.tagmanifest_sha256,
                existing=bag.existing,
                now_utc=now_utc,
            )
            await append_entries(connection, [entry])
            answers = await issue_receipts(connection, [group.manifest_id], signer=self._signer)
        _log.info("bag archived", path=bag.path, files=bag.files, size_bytes=bag.size_bytes)
        # Where the bag stood already, as after a restored catalogue, its files came twice.
        async with self._alarms.outliving("remove copies", manifest=group.manifest_id):
            await in_thread(partial(self._remove_copies, group))
        await self._send(answers, group.manifest_id)

    async def _send(self, answers: Sequence[Answer], manifest_id: ManifestId) -> None:
        if not answers:
            self._custody.tell()
            return
        for answer in await self._custody.covered(answers):
            self._publish(answer)
        async with self._alarms.outliving("tidy .incoming", manifest=manifest_id):
            await in_thread(partial(self._bags.forget_incoming, manifest_id))

    async def _request(self, group: CompleteGroup, claim: Claim) -> BagRequest:
        async with self._store.reading() as connection:
            certificate = await load_certificate(connection, claim.sealed.key_id)
        if certificate is None:
            raise UnknownSignerError(f"no certificate for {claim.sealed.key_id}")
        return bag_request(group, claim, certificate_pem=certificate, ca_pem=self._ca_pem)

    async def _want_again(self, entries: Sequence[IncomingEntry]) -> None:
        # First the catalogue: were the files removed first, a crash would leave it wrong.
        async with self._store.writing() as connection:
            for entry in entries:
                await mark_file(
                    connection, entry.file_id, before=FileState.ARRIVED, after=FileState.MISSING
                )
        for entry in entries:
            # What stays is refused when it is looked at again, and removed then.
            async with self._alarms.outliving("remove a file that has to come again"):
                await self._uploads.forget(entry)

    async def _ask_again(self, claim: Claim) -> None:
        """Tell the dock what is missing now; it believes that all of it was sent."""
        manifest = claim.manifest
        async with self._store.reading() as connection:
            book = await load_book(connection, [claim])
            states = await load_file_states(connection, [manifest.manifest_id])
        missing = missing_files(manifest.staged_files(), states[manifest.manifest_id])
        admission = statements.admit(
            claim, head=book.head(claim.dock), missing=missing, now_utc=self._signer.clock()
        )
        self._publish(self._signer.answer(admission))

    async def _receipt_bagged(self) -> None:
        async with self._store.reading() as connection:
            manifests = await load_bagged(connection)
        for manifest_id in manifests:
            async with self._alarms.outliving("sign a receipt", manifest=manifest_id):
                async with self._store.writing() as connection:
                    answers = await issue_receipts(connection, [manifest_id], signer=self._signer)
                await self._send(answers, manifest_id)

    async def _tidy_incoming(self) -> None:
        strangers = await in_thread(self._bags.strangers)
        if strangers:
            await self._alarms.sound(
                UnexpectedFileError.code,
                "Something lies in .incoming that is no manifest's folder; it was left alone.",
                {"entries": str(len(strangers)), "first": repr(strangers[0].name)},
            )
        unfinished = await in_thread(self._bags.unfinished)
        async with self._store.reading() as connection:
            states = await load_states(connection, unfinished)
        for manifest_id in unfinished:
            if manifest_id not in states:
                _log.warning("incoming files of an unknown manifest", manifest=manifest_id)
            elif states[manifest_id] is ManifestState.ARCHIVED:
                async with self._alarms.outliving("tidy .incoming", manifest=manifest_id):
                    await in_thread(partial(self._bags.forget_incoming, manifest_id))

    def _remove_copies(self, group: CompleteGroup) -> None:
        for entry in group.files:
            self._uploads.path_of(entry).unlink(missing_ok=True)

    def _is_sealed(self, entry: IncomingEntry) -> bool:
        try:
            return not self._uploads.path_of(entry).stat().st_mode & stat.S_IWUSR
        except FileNotFoundError:
            return False

    def _is_whole(self, entry: IncomingEntry) -> bool:
        try:
            found = self._uploads.path_of(entry).stat()
        except FileNotFoundError:
            return False
        return found.st_size == entry.size_bytes


def bag_request(
    group: CompleteGroup, claim: Claim, *, certificate_pem: bytes, ca_pem: bytes
) -> BagRequest:
    """Return what the archive needs to close a group's bag."""
    manifest = claim.manifest
    recordings = {one.recording_id: one for one in manifest.recordings}
    recording = recordings[group.recording_id] if group.recording_id else None
    promised = {file.digests.sha256: file for file in manifest.staged_files()}
    target = (
        bag_path(recording.recorded_on, None, recording.recording_id)
        if recording
        else docking_bag_path(docked_on(manifest), manifest.docking_id, manifest.part)
    )
    return BagRequest(
        manifest_id=manifest.manifest_id,
        group=group.files[0].group,
        target=target,
        files=tuple(
            BagFile(safe_name=entry.safe_name, file=promised[entry.digests.sha256])
            for entry in group.files
        ),
        envelope=claim.envelope,
        payload=claim.sealed.payload,
        signature=claim.sealed.signature,
        dock_certificate_pem=certificate_pem,
        ca_pem=ca_pem,
        recording=recording,
        manifest=manifest,
    )
