import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chain import GENESIS
from protocol.manifest import (
    ByteRange,
    EvidenceLevel,
    FileName,
    Incomplete,
    IncompleteReason,
    Manifest,
    Recording,
    StagedFile,
    contradictions,
    covered_bytes,
    exact_path,
    name_of,
)
from protocol.strict_json import encode, parse
from scripts.samples import chain, manifest


def changed_file(file: StagedFile, **changes: object) -> StagedFile:
    return msgspec.structs.replace(file, **changes)


def with_clip(one: Manifest, **changes: object) -> tuple[Recording, ...]:
    recording = one.recordings[0]
    clip = msgspec.structs.replace(
        recording.clips[0], file=changed_file(recording.clips[0].file, **changes)
    )
    return (msgspec.structs.replace(recording, clips=(clip,)),)


@given(path=st.binary(min_size=1, max_size=300))
def test_any_path_survives(path: bytes) -> None:
    """The exact bytes of any path come back, also over JSON."""
    name = parse(encode(name_of(path)), FileName, max_bytes=10_000)

    assert exact_path(name) == path


def test_every_field_survives_json() -> None:
    """A manifest with every field there is comes back equal."""
    full = chain()[1]

    assert parse(encode(full), Manifest, max_bytes=100_000) == full


def test_staged_files_are_clips_then_others() -> None:
    """What a manifest promises is its clips in order, then its other files."""
    one = manifest(GENESIS)

    assert list(one.staged_files()) == [one.recordings[0].clips[0].file, *one.other_files]


def test_good_manifests_do_not_contradict_themselves() -> None:
    """Nothing is found in the chain of samples."""
    assert [contradictions(one) for one in chain()] == [(), (), ()]


def test_one_path_twice_is_a_contradiction() -> None:
    """Two files under one name are found."""
    one = manifest(GENESIS)
    name = one.other_files[0].name
    found = contradictions(manifest(GENESIS, recordings=with_clip(one, name=name)))

    assert any("is named 2 times" in text for text in found)


def test_alias_counts_as_a_name() -> None:
    """An alias that is another file's name is found."""
    one = manifest(GENESIS)
    also = (one.other_files[0].name,)
    found = contradictions(manifest(GENESIS, recordings=with_clip(one, also_named=also)))

    assert any("is named 2 times" in text for text in found)


def test_one_digest_with_two_sizes_is_a_contradiction() -> None:
    """Equal digests with different sizes are found, and so is the double listing."""
    one = manifest(GENESIS)
    digests = one.other_files[0].digests
    found = contradictions(
        manifest(GENESIS, recordings=with_clip(one, digests=digests, size_bytes=1))
    )

    assert any("has two sizes" in text for text in found)
    assert any("is listed 2 times" in text for text in found)


def test_recording_twice_is_a_contradiction() -> None:
    """One recording id may stand once."""
    one = manifest(GENESIS)
    found = contradictions(manifest(GENESIS, recordings=one.recordings * 2))

    assert any(text.startswith("recording ") for text in found)


def test_file_below_the_claimed_level_is_a_contradiction() -> None:
    """A manifest cannot claim more evidence than its weakest file has."""
    one = manifest(GENESIS)
    weak = with_clip(one, evidence=EvidenceLevel.L1)

    assert contradictions(manifest(GENESIS, recordings=weak)) != ()
    assert contradictions(manifest(GENESIS, recordings=weak, evidence_level=EvidenceLevel.L1)) == ()


def test_only_the_first_has_no_predecessor() -> None:
    """A second manifest that names no predecessor is found."""
    found = contradictions(manifest(GENESIS, sequence=2))

    assert any("predecessor" in text for text in found)


def part(offset_bytes: int, size_bytes: int) -> ByteRange:
    return ByteRange(offset_bytes=offset_bytes, size_bytes=size_bytes, sha256="0" * 64)


def unreadable(*parts: ByteRange, taken_bytes: int) -> Manifest:
    """Return a manifest with a file of 100 bytes that could not be read whole."""
    incomplete = Incomplete(
        name=name_of(b"bad.MP4"),
        reason=IncompleteReason.UNREADABLE,
        size_bytes=100,
        taken_bytes=taken_bytes,
        readable=parts,
    )
    return manifest(GENESIS, incomplete=(incomplete,))


@pytest.mark.parametrize(
    ("parts", "taken_bytes", "agrees"),
    [
        ((), 40, True),
        ((part(0, 40), part(60, 40)), 80, True),
        ((part(0, 60), part(40, 60)), 100, True),
        ((part(0, 40),), 80, True),
        ((part(0, 40), part(60, 40)), 79, False),
        ((part(0, 40), part(60, 41)), 81, False),
        ((part(60, 40), part(0, 40)), 80, False),
        ((part(0, 40), part(0, 40)), 40, False),
        ((), 101, False),
    ],
)
def test_readable_parts_are_parts_of_their_file(
    parts: tuple[ByteRange, ...], taken_bytes: int, *, agrees: bool
) -> None:
    """They stand in order within the file, and are no more than what is said to be held."""
    found = contradictions(unreadable(*parts, taken_bytes=taken_bytes))

    assert any("readable parts" in text for text in found) is not agrees


@given(spans=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=8))
def test_bytes_are_counted_once(spans: list[tuple[int, int]]) -> None:
    """However parts overlap, each byte counts once."""
    every = {at for offset, size in spans for at in range(offset, offset + size)}

    assert covered_bytes(part(*span) for span in sorted(spans)) == len(every)


def test_a_sample_has_a_name_that_is_no_utf8() -> None:
    """The good vectors cover a path whose bytes only survive beside its text."""
    names = [file.name for one in chain() for file in one.staged_files()]

    assert any(name.raw_path is not None for name in names)
