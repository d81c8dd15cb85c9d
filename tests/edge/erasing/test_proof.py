"""What may leave a recorder, and everything that keeps it there."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.adapters.proof_file import read_proof
from edge_agent.erasing.claims import Due, ProvedFiles
from edge_agent.erasing.proof import Proof
from edge_agent.ingest.volume import EntryKind, RawEntry
from edge_agent.mounting.errors import EvidenceError, NotArchivedError
from protocol import strict_json
from protocol.digest import sha256_hex
from protocol.envelope import keyring, seal
from protocol.findings import FindingCode
from protocol.manifest import NotTaken, name_of
from protocol.versions import Statement
from tests.simulators.erasures import (
    ARCHIVED_AT,
    DOCKING,
    Pair,
    known,
    manifest_of,
    with_receipt,
)
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK_KEY, RECORDER, docking_id

CLIPS = {b"DCIM/1.MP4": b"first", b"DCIM/2.MP4": b"second"}
OTHERS = {b"SYSTEM/DEVICE.TXT": b"serial=1"}
LATER = ARCHIVED_AT + timedelta(days=1)


def proof_of(*pairs: Pair) -> ProvedFiles:
    proof = Proof(docking_id=DOCKING, archive_keys=keyring(ARCHIVE_KEY.public))
    for pair in pairs:
        proof.add(*pair)
    proved = proof.close()
    assert proved.model == RECORDER.model
    return proved.files


def listing(*files: dict[bytes, bytes]) -> list[RawEntry]:
    """Return the files as they are listed, in any order, below a folder."""
    content = {path: text for some in files for path, text in some.items()}
    return [
        RawEntry(path=b"DCIM", kind=EntryKind.DIRECTORY),
        *(
            RawEntry(path=path, kind=EntryKind.FILE, size_bytes=len(text))
            for path, text in sorted(content.items(), reverse=True)
        ),
    ]


def due(path: bytes, content: bytes) -> Due:
    return Due(path=path, size_bytes=len(content), sha256s=(sha256_hex(content),))


def test_footage_is_due_and_nothing_else() -> None:
    """Clips of recordings, in order of path; a recorder's own files stay."""
    proof = proof_of(with_receipt(manifest_of(CLIPS, OTHERS)))

    assert proof.is_any_due(LATER)
    assert list(proof.due(listing(CLIPS, OTHERS), LATER)) == [due(*one) for one in CLIPS.items()]


def test_what_was_archived_just_now_waits() -> None:
    """By the receipt's own time; a listing is compared all the same."""
    proof = proof_of(with_receipt(manifest_of(CLIPS, OTHERS)))
    before = ARCHIVED_AT - timedelta(microseconds=1)

    assert not proof.is_any_due(before)
    assert not proof.due(listing(CLIPS, OTHERS), before)
    assert proof.due(listing(CLIPS, OTHERS), ARCHIVED_AT)


def test_files_of_earlier_dockings_are_proved_by_their_own_receipts() -> None:
    """What is listed as known is due by the receipt of the manifest that claims its content."""
    earlier = manifest_of(CLIPS, number=1, docking_id=docking_id(1))
    names = (known(b"DCIM/1.MP4", b"first"), known(b"COPY/2.MP4", b"second"))
    now = manifest_of({}, number=2, known=names)
    pairs = with_receipt(earlier, archived_at=ARCHIVED_AT), with_receipt(now, archived_at=LATER)

    found = proof_of(*reversed(pairs)).due(
        listing({b"DCIM/1.MP4": b"first", b"COPY/2.MP4": b"second"}), ARCHIVED_AT
    )

    assert list(found) == [due(b"COPY/2.MP4", b"second"), due(b"DCIM/1.MP4", b"first")]
    for without in (pairs[1:], pairs):
        # What an earlier manifest has besides is kept in no memory: it comes after the docking's.
        with pytest.raises(EvidenceError, match="no receipt is about the content"):
            proof_of(*without)


@pytest.mark.parametrize(
    "there",
    [
        {**CLIPS, b"DCIM/3.MP4": b"a new one"},
        {b"DCIM/1.MP4": b"first"},
        {**CLIPS, b"DCIM/1.MP4": b"longer than it was"},
        {**CLIPS, b"DCIM/1.MP4": b""},
        {**CLIPS, b"EMPTY.MP4": b""},
    ],
)
def test_another_listing_stops_it(there: dict[bytes, bytes]) -> None:
    """A file that is new, gone, or of another size: nothing at all is due."""
    proof = proof_of(with_receipt(manifest_of(CLIPS)))

    with pytest.raises(NotArchivedError):
        proof.due(listing(there), LATER)


@pytest.mark.parametrize(
    "kind", [kind for kind in EntryKind if kind not in {EntryKind.FILE, EntryKind.DIRECTORY}]
)
def test_what_is_no_file_stops_it(kind: EntryKind) -> None:
    """Links, devices, and what cannot be looked at."""
    proof = proof_of(with_receipt(manifest_of(CLIPS)))
    strange = RawEntry(path=b"x", kind=kind)

    with pytest.raises(NotArchivedError, match=kind.value):
        proof.due([*listing(CLIPS), strange], LATER)


def test_a_path_that_is_listed_twice_stops_it() -> None:
    """A folder of the first volume that is called like the second one: which is which?"""
    proof = proof_of(with_receipt(manifest_of(CLIPS)))

    with pytest.raises(NotArchivedError, match="another file's name"):
        proof.due([*listing(CLIPS), *listing(CLIPS)], LATER)


@pytest.mark.parametrize("node", [(1, 7), None])
def test_two_names_that_may_be_one_file_stop_it(node: tuple[int, int] | None) -> None:
    """On a damaged FAT two names differ by case alone, and the kernel shows one file for both.

    The other one was never read; taken away by its name, it would be gone.
    """
    clips = {b"DCIM/1.MP4": b"first", b"DCIM/1.mp4": b"first"}
    proof = proof_of(with_receipt(manifest_of(clips)))
    seen = [RawEntry(path=path, kind=EntryKind.FILE, size_bytes=5, node=node) for path in clips]

    with pytest.raises(NotArchivedError, match="another file's name"):
        proof.due(seen, LATER)


def test_two_names_of_one_node_stop_it() -> None:
    """Whatever they are called: a short name, one with a dot at its end."""
    clips = {b"DCIM/LONGNA~1.MP4": b"first", b"DCIM/longname.mp4": b"first"}
    proof = proof_of(with_receipt(manifest_of(clips)))
    seen = [RawEntry(path=path, kind=EntryKind.FILE, size_bytes=5, node=(1, 7)) for path in clips]

    with pytest.raises(NotArchivedError, match="another file's name"):
        proof.due(seen, LATER)


def test_a_file_that_is_due_no_more_is_missed() -> None:
    """Also the last one: it holds now what may stay, and was footage a moment ago."""
    setting = b"a setting by now"
    was_there = (known(b"DCIM/2.MP4", setting, number=2),)
    earlier = with_receipt(manifest_of({}, {b"X": setting}, number=2, docking_id=docking_id(7)))
    proof = proof_of(with_receipt(manifest_of(CLIPS, known=was_there)), earlier)
    before = proof.due(listing(CLIPS), LATER)
    now = proof.due(listing({**CLIPS, b"DCIM/2.MP4": setting}), LATER)

    assert (len(before), len(now)) == (2, 1)
    assert before.are_the_same(before)
    assert not now.are_the_same(before)
    assert not before.are_the_same(now)


def test_a_file_that_was_not_taken_is_not_called_empty() -> None:
    """Though it is listed as that by now: the archive does not have what it held."""
    unread = NotTaken(name=name_of(b"X.MP4"), code=FindingCode.UNREADABLE_FILE, size_bytes=0)
    proof = proof_of(with_receipt(manifest_of(CLIPS, not_taken=(unread,))))

    with pytest.raises(NotArchivedError):
        proof.due(listing(CLIPS, {b"X.MP4": b""}), LATER)


def test_what_is_called_another_statement_is_no_manifest() -> None:
    """Though its bytes are those that the receipt is about."""
    manifest = manifest_of(CLIPS)
    _, receipt = with_receipt(manifest)
    other = seal(strict_json.encode(manifest), Statement.RECEIPT, DOCK_KEY)

    with pytest.raises(EvidenceError, match="no manifest"):
        proof_of((other, receipt))


def test_of_two_receipts_the_later_one_counts() -> None:
    """A content that was archived twice waits for as long as the last time asks for."""
    late = with_receipt(manifest_of(CLIPS), archived_at=LATER)
    early = with_receipt(manifest_of(CLIPS, number=2, docking_id=docking_id(7)))
    proof = proof_of(late, early)

    assert not proof.is_any_due(ARCHIVED_AT)
    assert proof.is_any_due(LATER)


def test_an_empty_file_stays_and_stops_nothing() -> None:
    """Its name is all there is of it, and a manifest has it; filled since, it stops everything."""
    empty = NotTaken(name=name_of(b"EMPTY.MP4"), code=FindingCode.EMPTY_FILE, size_bytes=0)
    proof = proof_of(with_receipt(manifest_of(CLIPS, not_taken=(empty,))))

    assert len(proof.due(listing(CLIPS, {b"EMPTY.MP4": b""}), LATER)) == 2
    assert len(proof.due(listing(CLIPS), LATER)) == 2
    with pytest.raises(NotArchivedError):
        proof.due(listing(CLIPS, {b"EMPTY.MP4": b"footage"}), LATER)


def test_a_foreign_file_that_was_not_taken_stops_it() -> None:
    """That a manifest names it is no receipt for its bytes."""
    foreign = NotTaken(name=name_of(b"SETUP.EXE"), code=FindingCode.FOREIGN_FILE, size_bytes=3)
    proof = proof_of(with_receipt(manifest_of(CLIPS, not_taken=(foreign,))))

    with pytest.raises(NotArchivedError, match=r"SETUP\.EXE"):
        proof.due(listing(CLIPS, {b"SETUP.EXE": b"MZ."}), LATER)


def test_a_file_with_two_contents_may_hold_either() -> None:
    """It changed while it was docked, and both are archived."""
    manifest = manifest_of({b"DCIM/1.MP4": b"first"}, known=(known(b"DCIM/1.MP4", b"other"),))
    other = manifest_of({b"OLD.MP4": b"other"}, number=2, docking_id=docking_id(1))
    proof = proof_of(with_receipt(manifest), with_receipt(other))

    [found] = proof.due(listing({b"DCIM/1.MP4": b"other"}), LATER)

    assert set(found.sha256s) == {sha256_hex(b"first"), sha256_hex(b"other")}


@pytest.mark.parametrize(
    "pair",
    [
        with_receipt(manifest_of(CLIPS), key=DOCK_KEY),
        with_receipt(manifest_of(CLIPS), payload_sha256=sha256_hex(b"another")),
        with_receipt(manifest_of(CLIPS), bags=()),
        with_receipt(manifest_of(CLIPS), sequence=7),
        (with_receipt(manifest_of(CLIPS))[0], with_receipt(manifest_of(CLIPS))[0]),
        (with_receipt(manifest_of(CLIPS))[1], with_receipt(manifest_of(CLIPS))[1]),
        (b"", b""),
        (with_receipt(manifest_of(CLIPS))[0], b"{}"),
    ],
)
def test_what_the_archive_did_not_sign_is_no_proof(pair: Pair) -> None:
    """Forged, of another manifest, of fewer bags, of another kind, or nothing at all."""
    with pytest.raises(EvidenceError):
        proof_of(pair)


def test_a_manifest_that_was_changed_is_no_proof() -> None:
    """The receipt is about its exact bytes."""
    changed = manifest_of({**CLIPS, b"DCIM/3.MP4": b"never archived"})

    with pytest.raises(EvidenceError, match="of another manifest"):
        proof_of((with_receipt(changed)[0], with_receipt(manifest_of(CLIPS))[1]))


def test_two_recorders_are_no_proof_of_one() -> None:
    """Whose content it is, matters."""
    other = msgspec.structs.replace(RECORDER, serial="0000002")
    pairs = (
        with_receipt(manifest_of(CLIPS)),
        with_receipt(manifest_of({}, number=2, recorder=other, docking_id=docking_id(1))),
    )

    with pytest.raises(EvidenceError, match="2 recorders"):
        proof_of(*pairs)


@pytest.mark.parametrize(
    "parts", [[], [(1, False)], [(2, True)], [(1, False), (3, True)], [(1, True), (2, False)]]
)
def test_a_docking_of_which_a_part_is_missing_is_no_proof(parts: list[tuple[int, bool]]) -> None:
    """The parts that are there do not name all that was on the recorder."""
    pairs = [
        with_receipt(manifest_of({}, number=part, part=part, last_part=last))
        for part, last in parts
    ]

    with pytest.raises(EvidenceError):
        proof_of(*pairs)


def test_all_parts_of_a_docking() -> None:
    """In any order."""
    first = with_receipt(manifest_of({b"1.MP4": b"first"}, number=1, part=1, last_part=False))
    last = with_receipt(manifest_of({b"2.MP4": b"second"}, number=2, part=2, last_part=True))
    proof = proof_of(last, first)

    assert len(proof.due(listing({b"1.MP4": b"first", b"2.MP4": b"second"}), LATER)) == 2


def test_a_file_that_is_longer_than_any_proof(tmp_path: Path) -> None:
    """Nothing of it is read."""
    proof = Proof(docking_id=DOCKING, archive_keys=keyring(ARCHIVE_KEY.public))
    with (tmp_path / "proof").open("w+b") as file:
        file.truncate((1 << 30) + 1)
        with pytest.raises(EvidenceError, match="a proof's size"):
            read_proof(file.fileno(), proof)


_PATHS = st.binary(min_size=1, max_size=6).filter(lambda path: b"/" not in path)
_FILES = st.dictionaries(_PATHS, st.binary(min_size=1, max_size=3), max_size=6)


@given(clips=_FILES, others=_FILES, there=_FILES)
def test_only_archived_footage_is_ever_due(
    clips: dict[bytes, bytes], others: dict[bytes, bytes], there: dict[bytes, bytes]
) -> None:
    """Whatever is on the recorder: all of it, as it is, is archived, or nothing is due."""
    others = {path: text for path, text in others.items() if path not in clips}
    proof = proof_of(with_receipt(manifest_of(clips, others)))
    try:
        found = list(proof.due(listing(there), LATER))
    except NotArchivedError:
        found = []

    archived = {**clips, **others}
    sizes = {path: len(text) for path, text in archived.items()}
    if found:
        assert {path: len(text) for path, text in there.items()} == sizes
    for one in found:
        assert one.path in clips
        assert set(one.sha256s) == {sha256_hex(clips[one.path])}
        assert clips[one.path] not in others.values()
