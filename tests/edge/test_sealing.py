from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import count

import pytest

from edge_agent.ingest.files import FileId, FileKey, FileRow, FileState
from edge_agent.ingest.inventory import FoundClip
from edge_agent.manifest.sealing import (
    ALIAS_BYTES,
    PART_BYTES,
    RECORDINGS_PART_BYTES,
    Content,
    DockingFacts,
    SealedManifest,
    date_recording,
    seal_docking,
)
from edge_agent.manifest.settling import ClaimedClip, ClaimedFile, ClaimedRecording, Settlement
from protocol.chain import GENESIS, ChainHead
from protocol.digest import Digests, sha256_hex
from protocol.envelope import MAX_ENVELOPE_BYTES, keyring, parse_statement, take_apart
from protocol.findings import Finding, FindingCode
from protocol.identifiers import ManifestId
from protocol.manifest import (
    MAX_FILES,
    ClipKind,
    ClockFacts,
    DateBasis,
    EvidenceLevel,
    Isolation,
    KnownFile,
    Manifest,
    NotTaken,
    contradictions,
    exact_path,
    name_of,
)
from protocol.versions import Statement
from tests.simulators.docking_site import (
    BAY,
    DOCKED_AT,
    MORNING,
    ZONE,
    mtime_ns,
    recorder_time,
)
from tests.simulators.sealed_manifests import DOCK, DOCK_KEY, RECORDER, docking_id, uuid7

EVENING = recorder_time(2026, 11, 21, 23, 59, 30)


def facts(*, drift_ms: int | None = None) -> DockingFacts:
    return DockingFacts(
        dock=DOCK,
        docking_id=docking_id(1),
        bay=BAY,
        recorder=RECORDER,
        officer=None,
        clock=ClockFacts(dock_time=DOCKED_AT, timezone=ZONE.key, drift_ms=drift_ms),
        isolation=Isolation.NOT_ENFORCED,
        log=None,
        evidence_level=EvidenceLevel.L2,
        agent="bayward-test",
        docked_at=DOCKED_AT,
        ended_at=DOCKED_AT,
        zone=ZONE,
    )


def minting() -> Callable[[], str]:
    numbers = count(1)
    return lambda: uuid7(3, next(numbers))


def seal(content: Content, head: ChainHead = GENESIS) -> tuple[SealedManifest, ...]:
    """Seal, and check all that must hold of any docking's manifests."""
    sealed = tuple(
        seal_docking(facts(), content, head, key=DOCK_KEY, mint=minting(), sealed_at=DOCKED_AT)
    )
    for number, one in enumerate(sealed, start=1):
        assert len(one.envelope) <= MAX_ENVELOPE_BYTES
        parts = take_apart(one.envelope)
        parts.verify(keyring(DOCK_KEY.public))
        assert parse_statement(parts, Statement.MANIFEST, Manifest) == one.manifest
        assert one.payload_sha256 == sha256_hex(parts.payload)
        assert not contradictions(one.manifest)
        manifest = one.manifest
        assert (manifest.part, manifest.last_part) == (number, number == len(sealed))
        assert (manifest.sequence, manifest.previous_sha256) == (
            head.sequence + 1,
            head.payload_sha256,
        )
        head = ChainHead(sequence=manifest.sequence, payload_sha256=one.payload_sha256)
    return sealed


def row(
    path: bytes, *, content: bytes = b"", evidence: EvidenceLevel = EvidenceLevel.L2
) -> FileRow:
    return FileRow(
        file_id=FileId(path.hex()),
        key=FileKey(path=path, size_bytes=5, mtime_ns=mtime_ns(MORNING)),
        docking_id=docking_id(1),
        state=FileState.STAGED,
        digests=Digests(sha256=sha256_hex(content or path)),
        evidence=evidence,
    )


def known_file(number: int) -> KnownFile:
    return KnownFile(
        name=name_of(b"%d" % number),
        size_bytes=1,
        mtime_ns=0,
        sha256="0" * 64,
        manifest_id=ManifestId(uuid7(1, 1)),
    )


def recording(*paths: bytes, officer: str | None = None) -> ClaimedRecording:
    return ClaimedRecording(
        clips=tuple(
            ClaimedClip(
                clip=FoundClip(key=row(path).key, kind=ClipKind.VIDEO, officer=officer),
                file=ClaimedFile(row=row(path)),
            )
            for path in paths
        ),
        complete=True,
    )


def test_a_docking_with_nothing_is_one_manifest() -> None:
    """The archive sees that the recorder came back, whatever it had."""
    assert len(seal(Content(settlement=Settlement()))) == 1


def test_a_chain_goes_on() -> None:
    """The first manifest names the head of the chain that there was."""
    head = ChainHead(sequence=41, payload_sha256="a" * 64)

    [sealed] = seal(Content(settlement=Settlement()), head)

    assert sealed.manifest.sequence == 42


def test_a_large_docking_is_sealed_in_parts() -> None:
    """At most 2,000 files a part, no recording in two of them, nothing lost."""
    recordings = tuple(
        recording(*(b"r%d/%d" % (number, clip) for clip in range(700))) for number in range(4)
    )
    others = tuple(ClaimedFile(row=row(b"log/%d" % number)) for number in range(1_500))

    sealed = seal(Content(settlement=Settlement(recordings=recordings, others=others)))

    sizes = [[len(one.clips) for one in part.manifest.recordings] for part in sealed]
    assert sizes == [[700], [700], [700], [700], []]
    claims = [claim for part in sealed for claim in part.claims]
    assert len(claims) == len(set(claims)) == 4 * 700 + 1_500
    for part in sealed:
        files = list(part.manifest.staged_files())
        assert len(files) <= MAX_FILES
        assert [file.name.path.encode().hex() for file in files] == list(part.claims)


def test_manifests_with_recordings_are_light() -> None:
    """Each bag carries its manifest: neither many recordings nor long lists weigh on it."""
    recordings = tuple(recording(b"%d.JPG" % number) for number in range(1_000))
    known = tuple(known_file(number) for number in range(1_500))

    sealed = seal(Content(settlement=Settlement(recordings=recordings, known=known)))

    payloads = [take_apart(part.envelope).payload for part in sealed if part.manifest.recordings]
    assert sum(len(part.manifest.recordings) for part in sealed) == 1_000
    # Beside what is listed, a manifest has its own facts.
    assert max(map(len, payloads)) < RECORDINGS_PART_BYTES + 4_096
    assert len(payloads) < 20
    assert tuple(one for part in sealed for one in part.manifest.known) == known


def test_lists_without_files_are_spread_over_parts() -> None:
    """However much is known, not taken or found, each part keeps its limits and nothing is lost."""
    known = tuple(known_file(number) for number in range(4_500))
    refused = tuple(
        NotTaken(name=name_of(b"%d" % number), code=FindingCode.LINK) for number in range(2_001)
    )
    findings = tuple(Finding(code=FindingCode.LINK, path=str(number)) for number in range(9_000))

    sealed = seal(Content(settlement=Settlement(known=known), not_taken=refused, findings=findings))

    assert tuple(one for part in sealed for one in part.manifest.known) == known
    assert tuple(one for part in sealed for one in part.manifest.not_taken) == refused
    assert tuple(one for part in sealed for one in part.manifest.findings) == findings


def test_hostile_names_do_not_burst_a_manifest() -> None:
    """2,000 names of 4 KiB that are six times as long in JSON go into several parts."""
    others = tuple(
        ClaimedFile(row=row(b"%04d" % number + b"\x01" * 4_000)) for number in range(2_000)
    )

    sealed = seal(Content(settlement=Settlement(others=others)))

    assert len(sealed) > 4
    assert all(len(part.envelope) < 2 * PART_BYTES for part in sealed)
    assert sum(len(part.claims) for part in sealed) == 2_000


def test_other_names_are_listed_beside_their_content() -> None:
    """An alias stands in also_named, and its row is claimed with the content's."""
    file = ClaimedFile(row=row(b"a", content=b"x"), also=(row(b"b", content=b"x"),))

    [sealed] = seal(Content(settlement=Settlement(others=(file,))))

    [staged] = sealed.manifest.other_files
    assert [name.path for name in staged.also_named] == ["b"]
    assert sealed.claims == (file.row.file_id, file.also[0].file_id)


def test_ten_thousand_names_of_one_content_are_all_listed() -> None:
    """Names for which there is no room beside their content are known in a later part."""
    names = tuple(row(b"%05d" % number + b"n" * 100, content=b"x") for number in range(10_000))
    file = ClaimedFile(row=names[0], also=names[1:])

    sealed = seal(Content(settlement=Settlement(others=(file,))))

    [staged] = list(sealed[0].manifest.staged_files())
    listed = [exact_path(name) for name in (staged.name, *staged.also_named)]
    assert sum(len(name.path) for name in staged.also_named) <= ALIAS_BYTES
    assert not sealed[0].manifest.known
    for part in sealed[1:]:
        for known in part.manifest.known:
            assert known.manifest_id == sealed[0].manifest.manifest_id
            listed.append(exact_path(known.name))
    assert sorted(listed) == [one.key.path for one in names]
    assert len(sealed[0].claims) == 10_000


def test_two_forms_of_one_path_are_in_two_manifests() -> None:
    """A file that changed between two dockings is claimed in both forms, each path once a part."""
    forms = [row(b"same"), row(b"same", content=b"other")]

    sealed = seal(
        Content(settlement=Settlement(others=tuple(ClaimedFile(row=form) for form in forms)))
    )

    assert [len(part.manifest.other_files) for part in sealed] == [1, 1]


def test_a_part_is_as_strong_as_its_weakest_file() -> None:
    """The manifest's level is the lowest of its files', never assumed."""
    files = (
        ClaimedFile(row=row(b"a")),
        ClaimedFile(row=row(b"b", evidence=EvidenceLevel.L1)),
    )

    [sealed] = seal(Content(settlement=Settlement(others=files)))

    assert sealed.manifest.evidence_level is EvidenceLevel.L1


@pytest.mark.parametrize(("said", "kept"), [("012345", "012345"), ("../x", None), (None, None)])
def test_only_an_officers_number_is_an_officer(said: str | None, kept: str | None) -> None:
    """What a name says is taken over only if it has the form of an officer's number."""
    [sealed] = seal(Content(settlement=Settlement(recordings=(recording(b"a", officer=said),))))

    assert sealed.manifest.recordings[0].officer == kept


DAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("started", "drift_ms", "written", "dated"),
    [
        (EVENING, None, None, (DAY, DateBasis.RECORDER_CLOCK)),
        (EVENING, 0, None, (DAY, DateBasis.CORRECTED_CLOCK)),
        (EVENING, -60_000, None, (DAY + timedelta(days=1), DateBasis.CORRECTED_CLOCK)),
        (None, -60_000, EVENING, (DAY, DateBasis.FILE_TIME)),
        (recorder_time(1980, 1, 1), None, EVENING, (DAY, DateBasis.FILE_TIME)),
        (
            recorder_time(1980, 1, 1),
            None,
            recorder_time(1980, 1, 1),
            (date(1980, 1, 1), DateBasis.RECORDER_CLOCK),
        ),
        (recorder_time(1, 1, 1), 60_000, EVENING, (DAY, DateBasis.FILE_TIME)),
    ],
)
def test_a_recording_is_dated(
    started: datetime | None,
    drift_ms: int | None,
    written: datetime | None,
    dated: tuple[date, DateBasis],
) -> None:
    """The recorder's word less its drift; the file's time where that is missing or impossible."""
    clip = FoundClip(
        key=FileKey(path=b"a", size_bytes=1, mtime_ns=mtime_ns(written or EVENING)),
        kind=ClipKind.VIDEO,
        started=started,
    )

    assert date_recording(clip, facts(drift_ms=drift_ms)) == dated


def test_a_recording_of_no_time_at_all_is_dated_by_its_docking() -> None:
    """Where nothing says when, it is the day on which the dock saw it."""
    clip = FoundClip(key=FileKey(path=b"a", size_bytes=1, mtime_ns=1 << 200), kind=ClipKind.VIDEO)

    found, basis = date_recording(clip, facts())

    assert found == DOCKED_AT.astimezone(ZONE).date()
    assert basis is DateBasis.FILE_TIME
    assert DOCKED_AT.tzinfo is UTC
