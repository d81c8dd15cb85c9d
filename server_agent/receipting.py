"""Receipts: signed once every group of a manifest stands in a bag."""

from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.errors import ProtocolError
from protocol.identifiers import ManifestId
from protocol.receipt import ArchivedBag
from server_agent.adapters.bag_records import GroupBag, load_all_unreceipted, record_receipts
from server_agent.adapters.custody_records import append_entries
from server_agent.catalogue.rows import describe_bag
from server_agent.errors import KeptManifestError
from server_agent.intake.checks import Claim, read_kept
from server_agent.intake.missing import groups_of
from server_agent.ledger.custody import log_receipt
from server_agent.signing import Answer, Signer


async def issue_receipts(
    connection: AsyncConnection, ids: Collection[ManifestId], *, signer: Signer
) -> list[Answer]:
    """Sign and keep the receipts that are due, in the transaction that is under way.

    Args:
        connection: Writing; the receipts may be published once it is committed, and the custody
            log has their entries under a checkpoint.
        ids: Manifests; those that are not archived as a whole, or have a receipt, get none.
        signer: Signs.

    Raises:
        KeptManifestError: A manifest that we keep can no longer be read.
    """
    now_utc = signer.clock()
    receipts: dict[ManifestId, Answer] = {}
    for envelope, standing in await load_all_unreceipted(connection, ids):
        if any(one.bag is None for one in standing):
            continue
        claim = read_own(envelope)
        receipt = signer.receipt(claim, _describe(claim, standing), now_utc=now_utc)
        receipts[claim.manifest.manifest_id] = Answer(
            dock=claim.dock, envelope=receipt, needs_checkpoint=True
        )
    await record_receipts(
        connection, {key: one.envelope for key, one in receipts.items()}, now_utc=now_utc
    )
    entries = [log_receipt(one.envelope, now_utc=now_utc) for one in receipts.values()]
    await append_entries(connection, entries)
    return list(receipts.values())


def read_own(envelope: bytes) -> Claim:
    """Return the claim in an envelope that the catalogue keeps.

    Raises:
        KeptManifestError: It can no longer be read.
    """
    try:
        return read_kept(envelope)
    except ProtocolError as error:
        raise KeptManifestError(f"{error.code}: {error}") from error


def _describe(claim: Claim, standing: Sequence[GroupBag]) -> list[ArchivedBag]:
    by_recording = {one.recording_id: one for one in standing}
    described: list[ArchivedBag] = []
    for group in groups_of(claim.manifest):
        found = by_recording[group.recording.recording_id if group.recording else None]
        if found.bag is not None:
            described.append(describe_bag(group, found.bag, existing=found.existing))
    return described
