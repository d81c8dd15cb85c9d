"""What a batch of messages changes: verdicts in, rows and answers out.

The book starts as what the catalogue knows of the docks, ids and contents that a batch names, and
learns from each message of the batch before the next one is looked at. One transaction writes what
came of it. Nothing here asks a database.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from protocol.chain import GENESIS, ChainHead
from protocol.identifiers import DockId, DockingId, ManifestId, RecorderId, RecordingId
from protocol.topics import Channel, of_dock
from server_agent.catalogue.rows import (
    PlannedGroup,
    Row,
    manifest_row,
    plan_groups,
    refused_row,
    verdict_columns,
)
from server_agent.intake.checks import (
    Accepted,
    Claim,
    History,
    KnownSite,
    Refused,
    Repeated,
    Waiting,
    place_claim,
    place_waiting,
    weigh_content,
)
from server_agent.intake.missing import ArchivedGroup
from server_agent.intake.states import ManifestState

# Of a manifest that promises no bytes; all others have their receipts from the archiver.
SignReceipt = Callable[[Claim], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A manifest that the catalogue has, or that this batch adds to it."""

    manifest_id: ManifestId
    dock: DockId
    sequence: int
    payload_sha256: str
    state: ManifestState


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message as it arrived."""

    untrusted_topic: str
    untrusted_body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A manifest in its dock's chain, to be answered by where it stands."""

    claim: Claim
    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A message that is answered with a refusal."""

    dock: DockId
    message: bytes
    refused: Refused


Reply = Standing | Denial


@dataclass(slots=True, kw_only=True)
class Changes:
    """What one transaction has to write, in this order."""

    deleted: list[ManifestId] = field(default_factory=list)
    added: list[Row] = field(default_factory=list)
    updated: list[Row] = field(default_factory=list)
    groups: list[tuple[Claim, PlannedGroup]] = field(default_factory=list)
    heads: dict[DockId, ChainHead] = field(default_factory=dict)
    refused: list[Row] = field(default_factory=list)
    admitted: list[tuple[Claim, bytes | None]] = field(default_factory=list)
    """What the custody log hears of: manifests, with their receipts if they have them already."""

    def matched_bags(self) -> frozenset[int]:
        """Return the bags that groups were matched to: they have to be read again."""
        found = (planned.matched_bag_id for _, planned in self.groups)
        return frozenset(one for one in found if one is not None)


@dataclass(slots=True, kw_only=True)
class Book:
    """The working copy of one transaction."""

    heads: dict[DockId, ChainHead] = field(default_factory=dict)
    by_place: dict[tuple[DockId, int], Kept] = field(default_factory=dict)
    by_id: dict[ManifestId, Kept] = field(default_factory=dict)
    recordings: dict[RecordingId, ManifestId] = field(default_factory=dict)
    dockings: dict[tuple[DockingId, int], ManifestId] = field(default_factory=dict)
    archived: dict[RecorderId, list[ArchivedGroup]] = field(default_factory=dict)

    def head(self, dock: DockId) -> ChainHead:
        """Return the end of a dock's chain."""
        return self.heads.get(dock, GENESIS)

    def history(self, claim: Claim) -> History:
        """Return what bears on *claim*."""
        manifest = claim.manifest
        place = self.by_place.get((claim.dock, manifest.sequence))
        namesake = self.by_id.get(manifest.manifest_id)
        recordings = [one.recording_id for one in manifest.recordings]
        return History(
            head=self.head(claim.dock),
            recorded_sha256=None if place is None else place.payload_sha256,
            id_is_taken=namesake is not None
            and (namesake.dock, namesake.sequence) != (claim.dock, manifest.sequence),
            taken_recordings=[
                one
                for one in recordings
                if self.recordings.get(one, manifest.manifest_id) != manifest.manifest_id
            ],
            docking_is_taken=self.dockings.get(
                (manifest.docking_id, manifest.part), manifest.manifest_id
            )
            != manifest.manifest_id,
        )

    def keep(self, claim: Claim, state: ManifestState) -> Kept:
        """Remember that *claim* stands so."""
        kept = Kept(
            manifest_id=claim.manifest.manifest_id,
            dock=claim.dock,
            sequence=claim.manifest.sequence,
            payload_sha256=claim.payload_sha256,
            state=state,
        )
        self.by_place[kept.dock, kept.sequence] = kept
        self.by_id[kept.manifest_id] = kept
        return kept


class Settlement:
    """Settles the messages of one transaction, one after the other."""

    def __init__(
        self, book: Book, *, site: KnownSite, now_utc: datetime, sign_receipt: SignReceipt
    ) -> None:
        self.book = book
        self.changes = Changes()
        self._site = site
        self._now_utc = now_utc
        self._sign_receipt = sign_receipt

    def settle(self, received: Received, read: Claim | Refused) -> Reply | None:
        """Take in a message that is new to this transaction; None if nobody is to be answered."""
        if isinstance(read, Refused):
            return self._turn_away(received, read)
        verdict = place_claim(read, site=self._site, history=self.book.history(read))
        match verdict:
            case Accepted():
                return self._take_in(read, is_new=True)
            case Waiting():
                kept = self.book.keep(read, ManifestState.WAITING)
                self.changes.added.append(
                    manifest_row(read, state=kept.state, received_at=self._now_utc)
                )
                return Standing(claim=read, kept=kept)
            case Repeated():
                return self._repeat(read)
            case Refused(keeps_place=True):
                return self._refuse_in_place(read, verdict, is_new=True)
            case Refused():
                return self._turn_away(received, verdict)

    def settle_waiting(self, claim: Claim) -> Reply | None:
        """Take in a manifest that waited; None while it has to go on waiting."""
        verdict = place_waiting(claim, site=self._site, history=self.book.history(claim))
        match verdict:
            case None:
                return None
            case Accepted():
                self._advance(claim)
                return self._take_in(claim, is_new=False)
            case Refused(keeps_place=True):
                self._advance(claim)
                return self._refuse_in_place(claim, verdict, is_new=False)
            case Refused():
                # Its place is free again, for the manifest that does follow.
                self.changes.deleted.append(claim.manifest.manifest_id)
                del self.book.by_id[claim.manifest.manifest_id]
                del self.book.by_place[claim.dock, claim.manifest.sequence]
                return self._turn_away(
                    Received(
                        untrusted_topic=of_dock(claim.dock, Channel.MANIFESTS),
                        untrusted_body=claim.envelope,
                    ),
                    verdict,
                )

    def _repeat(self, claim: Claim) -> Reply:
        kept = self.book.by_place[claim.dock, claim.manifest.sequence]
        if kept.state is not ManifestState.REFUSED:
            return Standing(claim=claim, kept=kept)
        verdict = weigh_content(claim, site=self._site, history=self.book.history(claim))
        if isinstance(verdict, Refused):
            return self._refuse_in_place(claim, verdict, is_new=False)
        return self._take_in(claim, is_new=False)

    def _take_in(self, claim: Claim, *, is_new: bool) -> Reply:
        manifest = claim.manifest
        archived = self.book.archived.get(manifest.recorder.recorder_id, [])
        planned = plan_groups(manifest, archived)
        self.changes.groups += [(claim, group) for group in planned]
        self.book.dockings[manifest.docking_id, manifest.part] = manifest.manifest_id
        for recording in manifest.recordings:
            self.book.recordings[recording.recording_id] = manifest.manifest_id
        # What matches is not vouched for here: a receipt waits until its bag was read again.
        receipt = None if planned else self._sign_receipt(claim)
        state = ManifestState.ADMITTED if receipt is None else ManifestState.ARCHIVED
        kept = self._write(claim, state, is_new=is_new, receipt=receipt)
        self.changes.admitted.append((claim, receipt))
        return Standing(claim=claim, kept=kept)

    def _refuse_in_place(self, claim: Claim, refused: Refused, *, is_new: bool) -> Reply:
        self._write(claim, ManifestState.REFUSED, is_new=is_new, refused=refused)
        return Denial(dock=claim.dock, message=claim.envelope, refused=refused)

    def _turn_away(self, received: Received, refused: Refused) -> Reply | None:
        self.changes.refused.append(
            refused_row(
                received.untrusted_topic,
                received.untrusted_body,
                refused,
                received_at=self._now_utc,
            )
        )
        if refused.dock is None:
            return None
        return Denial(dock=refused.dock, message=received.untrusted_body, refused=refused)

    def _write(
        self,
        claim: Claim,
        state: ManifestState,
        *,
        is_new: bool,
        refused: Refused | None = None,
        receipt: bytes | None = None,
    ) -> Kept:
        if is_new:
            self._advance(claim)
            self.changes.added.append(
                manifest_row(
                    claim,
                    state=state,
                    received_at=self._now_utc,
                    refused=refused,
                    receipt=receipt,
                )
            )
        else:
            self.changes.updated.append(
                {
                    "key": claim.manifest.manifest_id,
                    **verdict_columns(
                        state=state, at=self._now_utc, refused=refused, receipt=receipt
                    ),
                }
            )
        return self.book.keep(claim, state)

    def _advance(self, claim: Claim) -> None:
        head = ChainHead(sequence=claim.manifest.sequence, payload_sha256=claim.payload_sha256)
        self.book.heads[claim.dock] = self.changes.heads[claim.dock] = head
