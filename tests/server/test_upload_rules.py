"""What a request about an upload may say, and which bytes are missing: no network, no disk."""

from base64 import b64encode
from dataclasses import replace as replace_key
from datetime import date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.identifiers import ManifestId, OfficerId, RecordingId
from protocol.manifest import Clip, ClipKind, DateBasis, Recording, StagedFile
from server_agent.intake.missing import (
    ArchivedFile,
    ArchivedGroup,
    Group,
    RecordingKey,
    find_match,
    missing_files,
)
from server_agent.intake.offsets import (
    Creation,
    Fault,
    UploadFault,
    judge_append,
    parse_checksum,
    parse_creation,
    parse_number,
    parse_upload_id,
    upload_id,
)
from server_agent.intake.states import FileState
from tests.simulators.claims import staged

MANIFEST = ManifestId("01930000-0000-7000-8000-000000000001")
DIGEST = "ab" * 32
FILES = [staged("1", b"one"), staged("2", b"two"), staged("3", b"three")]


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def create(metadata: str, length: str | None = "5") -> Creation | Fault:
    return parse_creation(untrusted_length=length, untrusted_metadata=metadata)


def fault(found: object) -> UploadFault:
    assert isinstance(found, Fault)
    return found.kind


KEY = RecordingKey(
    started=datetime(2026, 11, 22, 8, 30),  # noqa: DTZ001 -- a recorder's clock has no zone
    recorded_on=date(2026, 11, 22),
    officer=OfficerId("012345"),
)


def archived(*files: StagedFile, bag_id: int, key: RecordingKey | None = None) -> ArchivedGroup:
    return ArchivedGroup(
        bag_id=bag_id,
        count=len(files),
        recording=key,
        files={
            one.digests.sha256: ArchivedFile(
                position=position,
                sha256=one.digests.sha256,
                sm3=one.digests.sm3,
                size_bytes=one.size_bytes,
            )
            for position, one in enumerate(files)
        },
    )


def group(*files: StagedFile) -> Group:
    return Group(recording=None, files=files)


def recorded(*files: StagedFile) -> Group:
    recording = Recording(
        recording_id=RecordingId(MANIFEST),
        clips=tuple(Clip(file=one, kind=ClipKind.VIDEO) for one in files),
        recorded_on=KEY.recorded_on,
        date_basis=DateBasis.RECORDER_CLOCK,
        started=KEY.started,
        officer=KEY.officer,
    )
    return Group(recording=recording, files=files)


def test_creation_names_manifest_and_digest() -> None:
    """The metadata of the contract is read; what a standard client adds is let be."""
    metadata = f"manifest {encoded(MANIFEST)},sha256 {encoded(DIGEST)},filename {encoded('法')}"

    assert create(metadata) == Creation(manifest_id=MANIFEST, sha256=DIGEST, length_bytes=5)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        f"manifest {encoded(MANIFEST)}",
        f"manifest {encoded(MANIFEST)},sha256 {encoded(DIGEST.upper())}",
        f"manifest {encoded(MANIFEST)},manifest {encoded(MANIFEST)},sha256 {encoded(DIGEST)}",
        f"manifest {encoded(MANIFEST + '.')},sha256 {encoded(DIGEST)}",
        f"manifest {encoded('x.y')},sha256 {encoded(DIGEST)}",
        f"manifest not-base64!,sha256 {encoded(DIGEST)}",
        f"manifest {encoded(MANIFEST)},sha256 {encoded(DIGEST)},x {'A' * 4_000}",
    ],
)
def test_other_metadata_is_refused(metadata: str) -> None:
    """Anything but one manifest and one digest in lower-case hex is a bad request."""
    assert fault(create(metadata)) is UploadFault.BAD_REQUEST


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "1.0", "01", "1e3", "٣", "1" * 20, " 1"])
def test_only_decimal_digits_are_a_number(text: str | None) -> None:
    """A number of bytes is decimal digits, no more than an int64 needs."""
    assert fault(parse_number(text, "Upload-Offset")) is UploadFault.BAD_REQUEST


def test_checksum() -> None:
    """SHA-256 in base64 is a checksum; no header is none; anything else is a bad request."""
    assert parse_checksum(f"sha256 {b64encode(bytes(32)).decode()}") == bytes(32)
    assert parse_checksum(None) is None
    for wrong in ("", "sha256", "sha256 x", f"sha1 {encoded('x')}", f"sha256 {encoded('short')}"):
        assert fault(parse_checksum(wrong)) is UploadFault.BAD_REQUEST


def test_upload_id_says_manifest_and_digest() -> None:
    """An upload's id is a function of manifest and digest, and gives both back."""
    assert parse_upload_id(upload_id(MANIFEST, DIGEST)) == (MANIFEST, DIGEST)


@given(text=st.text())
def test_any_text_is_an_upload_or_a_fault(text: str) -> None:
    """No text raises, whichever header it stands in."""
    assert isinstance(parse_upload_id(text), tuple | Fault)
    assert isinstance(parse_number(text, "Upload-Offset"), int | Fault)
    assert isinstance(parse_checksum(text), bytes | Fault)
    assert isinstance(create(text, text), Creation | Fault)


@given(told=st.integers(0, 9), there=st.integers(0, 9), content=st.none() | st.integers(0, 9))
def test_bytes_are_appended_where_the_file_ends(told: int, there: int, content: int | None) -> None:
    """Only the true offset is taken, and never more than the file's length."""
    found = judge_append(
        told_offset=told, offset_bytes=there, length_bytes=9, content_bytes=content
    )

    if told != there:
        assert fault(found) is UploadFault.OFFSET_DIFFERS
    elif content is not None and there + content > 9:
        assert fault(found) is UploadFault.TOO_LONG
    else:
        assert found is None


def test_one_bag_with_all_files_is_enough() -> None:
    """Other files that all stand in one bag of other files need not come again."""
    assert find_match(group(*FILES[:2]), None, [archived(*FILES, bag_id=7)]) == 7


def test_the_oldest_of_several_bags_is_taken() -> None:
    """Which of two bags is meant does not depend on the order of what was found."""
    both = [archived(FILES[0], bag_id=9), archived(FILES[0], bag_id=3)]

    assert find_match(group(FILES[0]), None, both) == 3
    assert find_match(group(FILES[0]), None, both[::-1]) == 3


def test_several_bags_together_are_not_enough() -> None:
    """Nothing is ever pieced together from two bags."""
    scattered = [archived(FILES[0], bag_id=1), archived(FILES[1], bag_id=2)]

    assert find_match(group(*FILES[:2]), None, scattered) is None


def test_another_size_is_another_file() -> None:
    """A digest with another size is no proof of anything."""
    other = archived(replace(FILES[0], size_bytes=999), bag_id=1)

    assert find_match(group(FILES[0]), None, [other]) is None


def test_a_contradicting_sm3_is_another_file() -> None:
    """One of the two digests is false then; where only one side has an SM3, SHA-256 decides."""
    told = staged("1", b"one", with_sm3=True)
    false = replace(told, digests=replace(told.digests, sm3="0" * 64))

    assert find_match(group(false), None, [archived(told, bag_id=1)]) is None
    assert find_match(group(told), None, [archived(FILES[0], bag_id=1)]) == 1
    assert find_match(group(FILES[0]), None, [archived(told, bag_id=1)]) == 1


@pytest.mark.parametrize(
    "key",
    [
        None,
        replace_key(KEY, started=datetime(2026, 11, 22, 8, 31)),  # noqa: DTZ001 -- a recorder's
        replace_key(KEY, recorded_on=date(2026, 11, 21)),
        replace_key(KEY, officer=OfficerId("543210")),
    ],
    ids=["other files", "started", "day", "officer"],
)
def test_another_recording_of_equal_bytes(key: RecordingKey | None) -> None:
    """A recording is only the same as one of the same time, day and officer."""
    assert find_match(recorded(*FILES), KEY, [archived(*FILES, bag_id=1, key=KEY)]) == 1
    assert find_match(recorded(*FILES), KEY, [archived(*FILES, bag_id=1, key=key)]) is None


def test_other_files_are_no_recording() -> None:
    """The bag of a recording does not stand in for other files of equal bytes."""
    assert find_match(group(*FILES), None, [archived(*FILES, bag_id=1, key=KEY)]) is None


@pytest.mark.parametrize(
    "clips", [FILES[::-1], FILES[:2], FILES[1:]], ids=["order", "first", "last"]
)
def test_a_recording_is_all_its_clips_in_order(clips: list[StagedFile]) -> None:
    """Clips in another order, or some of the clips, are another recording."""
    assert find_match(recorded(*clips), KEY, [archived(*FILES, bag_id=1, key=KEY)]) is None
    assert find_match(recorded(*FILES), KEY, [archived(*clips, bag_id=1, key=KEY)]) is None


def test_only_what_has_not_arrived_is_missing() -> None:
    """Arrived and archived files are not asked for; one that nobody knows is."""
    states = {
        FILES[0].digests.sha256: FileState.ARRIVED,
        FILES[1].digests.sha256: FileState.MISSING,
    }

    missing = missing_files(FILES, states)

    assert [one.sha256 for one in missing] == [one.digests.sha256 for one in FILES[1:]]
    assert [one.size_bytes for one in missing] == [one.size_bytes for one in FILES[1:]]
