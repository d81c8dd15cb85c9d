"""What a request about an upload may say, and which bytes are missing: no network, no disk."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identifiers import ManifestId
from protocol.manifest import StagedFile
from server_agent.intake.missing import (
    ArchivedFile,
    Group,
    find_existing_bag,
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


def archived(file: StagedFile, bag_id: int) -> ArchivedFile:
    return ArchivedFile(
        bag_id=bag_id,
        safe_name=f"{bag_id}-{file.name.path}",
        sha256=file.digests.sha256,
        size_bytes=file.size_bytes,
    )


def group(*files: StagedFile) -> Group:
    return Group(recording=None, files=files)


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
    """A group whose files all stand in one bag needs nothing, under the names they have there."""
    found = find_existing_bag(group(*FILES[:2]), [archived(one, 7) for one in FILES])

    assert found is not None
    assert found.bag_id == 7
    assert found.safe_names == {one.digests.sha256: f"7-{one.name.path}" for one in FILES[:2]}


def test_the_oldest_of_several_bags_is_taken() -> None:
    """Which of two bags is meant does not depend on the order of what was found."""
    both = [archived(FILES[0], 9), archived(FILES[0], 3)]

    assert find_existing_bag(group(FILES[0]), both) == find_existing_bag(
        group(FILES[0]), both[::-1]
    )
    found = find_existing_bag(group(FILES[0]), both)
    assert found is not None
    assert found.bag_id == 3


def test_several_bags_together_are_not_enough() -> None:
    """A recording is never pieced together from two bags."""
    scattered = [archived(FILES[0], 1), archived(FILES[1], 2)]

    assert find_existing_bag(group(*FILES[:2]), scattered) is None


def test_another_size_is_another_file() -> None:
    """A digest with another size is no proof of anything."""
    other = ArchivedFile(bag_id=1, safe_name="x", sha256=FILES[0].digests.sha256, size_bytes=999)

    assert find_existing_bag(group(FILES[0]), [other]) is None


def test_only_what_has_not_arrived_is_missing() -> None:
    """Arrived and archived files are not asked for; one that nobody knows is."""
    states = {
        FILES[0].digests.sha256: FileState.ARRIVED,
        FILES[1].digests.sha256: FileState.MISSING,
    }

    missing = missing_files(FILES, states)

    assert [one.sha256 for one in missing] == [one.digests.sha256 for one in FILES[1:]]
    assert [one.size_bytes for one in missing] == [one.size_bytes for one in FILES[1:]]
