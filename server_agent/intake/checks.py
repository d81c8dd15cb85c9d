"""The numbered admission checks: from untrusted bytes to a verdict, never to an exception.

Checks 1 to 6 need the message and the registry alone: `read_claim`. Checks 7 to 9 need to know
what the catalogue has of that dock: `place_claim`. `examine` is both.

Source:
    docs/architecture.md, "Admission checks".
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from protocol.chain import ChainHead, Link, judge
from protocol.digest import sha256_hex
from protocol.envelope import (
    MAX_ENVELOPE_BYTES,
    Sealed,
    keyring,
    parse_statement,
    take_apart,
)
from protocol.errors import ProtocolError
from protocol.findings import MAX_DETAIL_CHARACTERS, FindingCode
from protocol.identifiers import DockId, ManifestId, RecorderId, RecordingId
from protocol.keys import KeyId, VerifyingKey
from protocol.manifest import FileName, Manifest, contradictions, name_of
from protocol.registry import RecorderEntry, Registry
from protocol.topics import Channel, parse_dock_topic
from protocol.versions import Statement

# Numbers that end up in the catalogue's 32-bit columns and in folder names.
_HIGHEST_NUMBER: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSite:
    """The registry, ready for look-ups."""

    docks: Mapping[DockId, Mapping[KeyId, VerifyingKey]]
    recorders: Mapping[RecorderId, RecorderEntry]

    @classmethod
    def of(cls, registry: Registry) -> "KnownSite":
        """Return *registry* for look-ups.

        Raises:
            KeyFormatError: A dock's key is none; whoever issued the registry did not look.
        """
        return cls(
            docks={
                entry.dock: keyring(VerifyingKey.from_spki_der(entry.signing_key))
                for entry in registry.docks
            },
            recorders={entry.recorder: entry for entry in registry.recorders},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A manifest that passed checks 1 to 6: its dock did sign these bytes."""

    dock: DockId
    manifest: Manifest
    payload_sha256: str
    sealed: Sealed
    envelope: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The next manifest of its dock's chain; nothing speaks against it."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Manifests before this one are missing; to be kept until they are there."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """The catalogue has these very bytes; to be answered again."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Not admitted, by the first check that failed.

    Attributes:
        dock: Whom to answer; None when check 1 failed.
        claim: There when checks 1 to 6 passed.
        keeps_place: The manifest stays in its dock's chain, and its successors go on.
    """

    code: FindingCode
    detail: str
    dock: DockId | None = None
    claim: Claim | None = None
    keeps_place: bool = False


Verdict = Accepted | Waiting | Repeated | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the catalogue knows that bears on one manifest.

    Attributes:
        head: The last manifest of its dock's chain.
        recorded_sha256: The digest of what has this number already, waiting ones included.
        id_is_taken: Another manifest has this manifest's id.
        taken_recordings: Those of its recordings that another manifest has named.
        docking_is_taken: Another manifest has this docking's part.
    """

    head: ChainHead
    recorded_sha256: str | None = None
    id_is_taken: bool = False
    taken_recordings: Collection[RecordingId] = ()
    docking_is_taken: bool = False


def examine(
    untrusted_topic: str,
    untrusted: bytes,
    *,
    site: KnownSite,
    history: Callable[[Claim], History],
) -> Verdict:
    """Return the verdict of all nine checks about one message; *history* is asked at most once."""
    read = read_claim(untrusted_topic, untrusted, site=site)
    if isinstance(read, Refused):
        return read
    return place_claim(read, site=site, history=history(read))


def read_claim(untrusted_topic: str, untrusted: bytes, *, site: KnownSite) -> Claim | Refused:
    """Return what a known dock has signed, or the first of checks 1 to 6 that failed."""
    # 1. The topic names a dock that the registry knows.
    dock = _known_dock(untrusted_topic, site)
    if isinstance(dock, Refused):
        return dock

    # 2. Size.
    if len(untrusted) > MAX_ENVELOPE_BYTES:
        return _refused(
            FindingCode.MESSAGE_TOO_LARGE,
            f"{len(untrusted)} bytes, at most {MAX_ENVELOPE_BYTES}",
            dock,
        )

    # 3. The envelope is well formed.
    failing = FindingCode.ENVELOPE_MALFORMED
    try:
        sealed = take_apart(untrusted)

        # 4. Signed by that dock's registered key.
        failing = FindingCode.SIGNATURE_WRONG
        sealed.verify(site.docks[dock])

        # 5. Payload type and version are known, and the schema fits, strictly.
        failing = FindingCode.STATEMENT_UNREADABLE
        manifest = parse_statement(sealed, Statement.MANIFEST, Manifest)
    except (ProtocolError, ValueError) as error:
        return _refused(failing, str(error), dock)

    # 6. The payload's dock is the topic's dock.
    if manifest.dock != dock:
        return _refused(
            FindingCode.OTHER_DOCK, f"a manifest of dock {manifest.dock!r} on {dock!r}", dock
        )
    return Claim(
        dock=dock,
        manifest=manifest,
        payload_sha256=sha256_hex(sealed.payload),
        sealed=sealed,
        envelope=untrusted,
    )


def place_claim(claim: Claim, *, site: KnownSite, history: History) -> Verdict:
    """Return the verdict of checks 7 to 9."""
    manifest = claim.manifest

    # 7. Number and chain.
    link = judge(
        history.head,
        sequence=manifest.sequence,
        previous_sha256=manifest.previous_sha256,
        payload_sha256=claim.payload_sha256,
        recorded_sha256=history.recorded_sha256,
    )
    if link is Link.FORKED:
        detail = f"manifest {manifest.sequence} does not follow what is known of {claim.dock!r}"
        return _forked(claim, detail)
    if link is Link.REPEATED or history.recorded_sha256 == claim.payload_sha256:
        # One that waits is repeated too, until its predecessors are there.
        return Repeated(claim=claim)
    if history.id_is_taken:
        return _forked(claim, f"the id {manifest.manifest_id} is another manifest's")
    if link is Link.LATER:
        return Waiting(claim=claim)
    return weigh_content(claim, site=site, history=history)


def place_waiting(claim: Claim, *, site: KnownSite, history: History) -> Accepted | Refused | None:
    """Return the verdict about a manifest that waited, now that the chain has grown.

    Args:
        claim: It passed checks 1 to 6 when it came.
        site: The registry.
        history: As it is now; ``recorded_sha256`` is not looked at, for it is its own.

    Returns:
        None while predecessors are still missing.
    """
    # 7. Number and chain.
    link = judge(
        history.head,
        sequence=claim.manifest.sequence,
        previous_sha256=claim.manifest.previous_sha256,
        payload_sha256=claim.payload_sha256,
        recorded_sha256=None,
    )
    if link is Link.LATER:
        return None
    if link is not Link.NEXT:
        return _forked(claim, f"manifest {claim.manifest.sequence} does not follow its predecessor")
    return weigh_content(claim, site=site, history=history)


def weigh_content(claim: Claim, *, site: KnownSite, history: History) -> Accepted | Refused:
    """Return the verdict of checks 8 and 9, about a manifest whose place is known."""
    manifest = claim.manifest

    # 8. The recorder is known in the registry, as it named itself.
    facts = manifest.recorder
    entry = site.recorders.get(facts.recorder_id)
    if entry is None or (entry.model, entry.serial) != (facts.model, facts.serial):
        return Refused(
            code=FindingCode.UNKNOWN_RECORDER,
            detail=_short(
                f"{facts.recorder_id}: model {facts.model!r}, serial {facts.serial!r} "
                "is not in the registry"
            ),
            dock=claim.dock,
            claim=claim,
            keeps_place=True,
        )

    # 9. The manifest agrees with itself.
    found = [
        *contradictions(manifest),
        *_out_of_bounds(manifest),
        *_misnamed(manifest),
        *(f"recording {one} was claimed before" for one in sorted(history.taken_recordings)),
    ]
    if history.docking_is_taken:
        found.append(f"docking {manifest.docking_id}, part {manifest.part}, was claimed before")
    if found:
        return Refused(
            code=FindingCode.MANIFEST_CONTRADICTS,
            detail=_short("; ".join(found)),
            dock=claim.dock,
            claim=claim,
            keeps_place=True,
        )
    return Accepted(claim=claim)


def read_kept(envelope: bytes) -> Claim:
    """Return the claim in an envelope that passed checks 1 to 6 when it came.

    Its signature is not verified again: the dock may have a new key by now.

    Raises:
        ProtocolError: The kept bytes are damaged.
    """
    sealed = take_apart(envelope)
    manifest = parse_statement(sealed, Statement.MANIFEST, Manifest)
    return Claim(
        dock=manifest.dock,
        manifest=manifest,
        payload_sha256=sha256_hex(sealed.payload),
        sealed=sealed,
        envelope=envelope,
    )


def named_ids(claim: Claim) -> tuple[ManifestId, tuple[RecordingId, ...]]:
    """Return the ids that a claim brings into the catalogue."""
    manifest = claim.manifest
    return manifest.manifest_id, tuple(one.recording_id for one in manifest.recordings)


def _known_dock(untrusted_topic: str, site: KnownSite) -> DockId | Refused:
    try:
        topic = parse_dock_topic(untrusted_topic)
    except (ProtocolError, ValueError) as error:
        return _refused(FindingCode.UNKNOWN_DOCK, str(error), None)
    if topic.channel is not Channel.MANIFESTS:
        return _refused(FindingCode.UNKNOWN_DOCK, f"no manifests on {untrusted_topic!r}", None)
    if topic.dock not in site.docks:
        return _refused(FindingCode.UNKNOWN_DOCK, f"dock {topic.dock!r} is not registered", None)
    return topic.dock


def _out_of_bounds(manifest: Manifest) -> list[str]:
    """What the schema lets through and no catalogue, path or calendar can hold."""
    found: list[str] = []
    if manifest.part > _HIGHEST_NUMBER:
        found.append(f"part {manifest.part}")
    for recording in manifest.recordings:
        numbers = [clip.sequence for clip in recording.clips if clip.sequence is not None]
        found += [
            f"clip number {number}" for number in numbers if not 0 <= number <= _HIGHEST_NUMBER
        ]
    names = (name for file in manifest.staged_files() for name in (file.name, *file.also_named))
    found += [f"{name.path!r} has a NUL" for name in names if "\0" in name.path]
    clock = manifest.clock
    times = (manifest.sealed_at, manifest.docked_at, manifest.ended_at, clock.dock_time)
    found += [f"{time} is no moment in UTC" for time in times if not has_utc(time)]
    return found


def _misnamed(manifest: Manifest) -> list[str]:
    """Names whose text says something else than their exact bytes: two readers, two names."""
    return [
        f"{name.path!r} is not the name of {name.raw_path!r}"
        for name in _names(manifest)
        if name.raw_path is not None and name_of(name.raw_path) != name
    ]


def _names(manifest: Manifest) -> Iterator[FileName]:
    for file in manifest.staged_files():
        yield file.name
        yield from file.also_named
    yield from (entry.name for entry in manifest.known)
    yield from (entry.name for entry in manifest.not_taken)
    yield from (entry.name for entry in manifest.incomplete)


def has_utc(untrusted_time: datetime) -> bool:
    """Return whether a time is one in UTC and wherever it is shown: year 1 may become 0."""
    try:
        utc = untrusted_time.astimezone(UTC)
        # No zone is as much as a day away.
        (utc - timedelta(days=1), utc + timedelta(days=1))
    except OverflowError:
        return False
    return True


def _refused(code: FindingCode, detail: str, dock: DockId | None) -> Refused:
    return Refused(code=code, detail=_short(detail), dock=dock)


def _forked(claim: Claim, detail: str) -> Refused:
    return Refused(
        code=FindingCode.CHAIN_FORKED, detail=_short(detail), dock=claim.dock, claim=claim
    )


def _short(text: str) -> str:
    return text[:MAX_DETAIL_CHARACTERS]
