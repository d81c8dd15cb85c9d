import contextlib
import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import (
    CopyStoppedError,
    SizeMismatchError,
    SourceUnreadableError,
    SourceVanishedError,
)
from edge_agent.ingest.copying import (
    OVERLAP_BYTES,
    CopiedFile,
    CopyWatch,
    Resume,
    copy_file,
    hash_again,
)
from edge_agent.ingest.files import FileId
from protocol.digest import sha256_hex
from tests.simulators.memory_staging import MemorySlot, MemoryStaging
from tests.simulators.memory_volume import MemoryFile, MemoryVolume, Stored

CLIP = b"clip"
ID = FileId("id")
contents = st.binary(min_size=1, max_size=200)


@dataclasses.dataclass
class Watched:
    """Keeps what was told; *stop_at* is where the agent is asked to stop."""

    stop_at: int | None = None
    seen: list[int] = dataclasses.field(default_factory=list)
    checkpoints: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    @property
    def watch(self) -> CopyWatch:
        return CopyWatch(
            progress=self._progress,
            checkpoint=lambda *told: self.checkpoints.append(told),
            forget=self.checkpoints.clear,
        )

    @property
    def resume(self) -> Resume | None:
        if not self.checkpoints:
            return None
        offset_bytes, prefix_sha256 = self.checkpoints[-1]
        return Resume(offset_bytes=offset_bytes, prefix_sha256=prefix_sha256)

    def _progress(self, held_bytes: int) -> None:
        self.seen.append(held_bytes)
        if self.stop_at is not None and held_bytes >= self.stop_at:
            raise CopyStoppedError("stop")


def copy(
    volume: MemoryVolume,
    slot: MemorySlot,
    watched: Watched,
    *,
    expected_bytes: int | None = None,
    resume: Resume | None = None,
    checkpoint_bytes: int = 16,
    with_sm3: bool = False,
) -> CopiedFile:
    with volume.open(CLIP) as source:
        return copy_file(
            CLIP,
            source,
            slot,
            expected_bytes=source.size_bytes if expected_bytes is None else expected_bytes,
            watch=watched.watch,
            resume=resume,
            checkpoint_bytes=checkpoint_bytes,
            with_sm3=with_sm3,
        )


def stored(slot: MemorySlot) -> bytes:
    return b"".join(slot.stored(offset_bytes=0))


def one_file(content: bytes, *, chunk_bytes: int = 7) -> MemoryVolume:
    return MemoryVolume(files={CLIP: Stored(content=content)}, chunk_bytes=chunk_bytes)


@given(content=contents, chunk_bytes=st.integers(1, 50))
def test_bytes_and_digest_do_not_depend_on_chunking(content: bytes, chunk_bytes: int) -> None:
    """However the recorder splits the file, the slot gets it whole, and its digest is right."""
    slot = MemoryStaging().create(ID, size_bytes=len(content))

    copied = copy(one_file(content, chunk_bytes=chunk_bytes), slot, Watched(), with_sm3=True)

    assert stored(slot) == content
    assert copied.digests.sha256 == sha256_hex(content)
    assert copied.digests.sm3 is not None
    assert (copied.size_bytes, copied.resumed_bytes) == (len(content), 0)


@given(content=contents, off_by=st.integers(-200, 200).filter(bool))
def test_only_the_announced_size_is_a_copy(content: bytes, off_by: int) -> None:
    """A file that is longer or shorter than its entry is no copy."""
    slot = MemoryStaging().create(ID, size_bytes=0)

    with pytest.raises(SizeMismatchError) as caught:
        copy(one_file(content), slot, Watched(), expected_bytes=len(content) + off_by)

    assert caught.value.untrusted_path == CLIP


@pytest.mark.parametrize("now", [b"short", b"longer than it said, by far"])
def test_a_size_that_changes_under_the_hand(now: bytes) -> None:
    """A file that grows or shrinks while it is read is no copy, and does not fill the disk."""
    volume = one_file(b"as announced")
    slot = MemoryStaging().create(ID, size_bytes=12)

    with volume.open(CLIP) as source:
        volume.files[CLIP] = Stored(content=now)
        with pytest.raises(SizeMismatchError):
            copy_file(CLIP, source, slot, expected_bytes=12, watch=Watched().watch)

    assert slot.stored_bytes <= 13


@given(content=contents, chunks=st.integers(0, 30), checkpoint_bytes=st.integers(1, 60))
def test_what_was_read_before_the_pull_is_durable(
    content: bytes, chunks: int, checkpoint_bytes: int
) -> None:
    """Pulled anywhere, every byte that was read is durable, and the checkpoint says so."""
    staging = MemoryStaging()
    slot = staging.create(ID, size_bytes=len(content))
    volume = one_file(content)
    volume.pull_after_chunks = chunks + 1
    watched = Watched()

    try:
        copy(volume, slot, watched, checkpoint_bytes=checkpoint_bytes)
    except SourceVanishedError:
        read = content[: 7 * (chunks + 1)]
        assert staging.partial[ID] == read
        assert watched.checkpoints[-1] == (len(read), sha256_hex(read))


def begin(staging: MemoryStaging, size_bytes: int, resume: Resume | None) -> MemorySlot:
    """Return the slot as a docking opens it."""
    if resume is None:
        return staging.create(ID, size_bytes=size_bytes)
    return staging.reopen(ID, size_bytes=size_bytes, stored_bytes=resume.offset_bytes)


@given(content=contents, stops=st.lists(st.integers(1, 200), max_size=4))
def test_stopped_and_resumed_any_number_of_times(content: bytes, stops: list[int]) -> None:
    """Resumed from its checkpoints, a copy is what it would have been in one go."""
    staging = MemoryStaging()
    volume = one_file(content)
    watched = Watched()
    resume: Resume | None = None
    for stop_at in stops:
        watched.stop_at = stop_at
        slot = begin(staging, len(content), resume)
        with contextlib.suppress(CopyStoppedError):
            copy(volume, slot, watched, resume=resume)
        resume = watched.resume
    slot = begin(staging, len(content), resume)

    copied = copy(volume, slot, Watched(), resume=resume)

    assert stored(slot) == content
    assert copied.digests.sha256 == sha256_hex(content)
    assert copied.resumed_bytes == (resume.offset_bytes if resume else 0)


def begun(prefix: bytes, *, size_bytes: int) -> tuple[MemoryStaging, MemorySlot, Resume]:
    """Return a slot that holds *prefix* since an earlier docking."""
    staging = MemoryStaging()
    slot = staging.create(ID, size_bytes=size_bytes)
    slot.append(prefix)
    slot.sync()
    slot = staging.reopen(ID, size_bytes=size_bytes, stored_bytes=len(prefix))
    return staging, slot, Resume(offset_bytes=len(prefix), prefix_sha256=sha256_hex(prefix))


def test_only_the_overlap_is_read_again() -> None:
    """Of what we have, at most the overlap is read from the recorder again."""
    content = bytes(range(256)) * (3 * OVERLAP_BYTES // 256)
    _, slot, resume = begun(content[: 2 * OVERLAP_BYTES], size_bytes=len(content))
    volume = one_file(content, chunk_bytes=100_000)

    copied = copy(volume, slot, Watched(), resume=resume, checkpoint_bytes=1 << 20)

    assert copied.digests.sha256 == sha256_hex(content)
    assert volume.read_bytes[CLIP] == 2 * OVERLAP_BYTES


def test_a_prefix_that_rotted_is_not_trusted() -> None:
    """A prefix that rotted before the overlap is copied anew, in another file."""
    content = bytes(range(256)) * (2 * OVERLAP_BYTES // 256)
    staging, slot, resume = begun(b"X" + content[1:-1], size_bytes=len(content))
    resume = dataclasses.replace(resume, prefix_sha256=sha256_hex(content[:-1]))
    volume = one_file(content, chunk_bytes=100_000)

    copied = copy(volume, slot, Watched(), resume=resume, checkpoint_bytes=1 << 20)

    assert stored(slot) == content
    assert copied.resumed_bytes == 0
    assert staging.copies == [ID, ID]


def test_a_prefix_that_is_not_the_recorders_is_not_trusted() -> None:
    """A source that has something else where we stopped is copied anew."""
    _, slot, resume = begun(b"abcX", size_bytes=8)

    copied = copy(one_file(b"abcdefgh"), slot, Watched(), resume=resume)

    assert stored(slot) == b"abcdefgh"
    assert copied.resumed_bytes == 0


def test_a_prefix_that_is_too_short_is_not_trusted() -> None:
    """A slot that holds less than the journal says is copied anew."""
    _, slot, resume = begun(b"abc", size_bytes=8)

    copied = copy(
        one_file(b"abcdefgh"), slot, Watched(), resume=dataclasses.replace(resume, offset_bytes=4)
    )

    assert stored(slot) == b"abcdefgh"
    assert copied.resumed_bytes == 0


def test_a_whole_prefix_needs_nothing_more() -> None:
    """Stopped between the last byte and the seal, a copy resumes at its end."""
    _, slot, resume = begun(b"abcdefgh", size_bytes=8)

    copied = copy(one_file(b"abcdefgh"), slot, Watched(), resume=resume)

    assert (copied.resumed_bytes, copied.digests.sha256) == (8, sha256_hex(b"abcdefgh"))


def test_a_bad_sector_keeps_what_is_before_it() -> None:
    """Up to the bad sector the copy is durable, for the next try."""
    volume = MemoryVolume(files={CLIP: Stored(content=b"x" * 50, bad_from=30)}, chunk_bytes=7)
    staging = MemoryStaging()
    watched = Watched()

    with pytest.raises(SourceUnreadableError):
        copy(volume, staging.create(ID, size_bytes=50), watched)

    assert len(staging.partial[ID]) == 30
    assert watched.checkpoints[-1][0] == 30


def test_our_own_disk_is_not_wrapped() -> None:
    """An error of our disk comes out as it is, without another sync."""
    staging = MemoryStaging(failing_syncs=1)
    slot = staging.create(ID, size_bytes=50)

    with pytest.raises(OSError, match="sync failed"):
        copy(one_file(b"x" * 50), slot, Watched())

    assert not staging.partial[ID]


def test_a_second_read_tells_what_it_got() -> None:
    """The second read gives the digest of what the recorder gave then."""
    volume = one_file(b"first")
    volume.second_reads = {CLIP: b"second"}
    asked: list[int] = []

    with volume.open(CLIP) as source:
        hashes = [hash_again(source, progress=lambda: asked.append(1)) for _ in range(2)]

    assert hashes == [sha256_hex(b"first"), sha256_hex(b"second")]
    assert asked


def test_a_source_is_not_read_beyond_need() -> None:
    """A file that never ends is given up after its announced size."""

    class Endless(MemoryFile):
        given = 0

        def chunks(self, *, offset_bytes: int) -> Iterator[bytes]:
            while True:
                self.given += 1
                yield b"0123"[offset_bytes:3]

    source = Endless(one_file(b"0123"), CLIP)
    with pytest.raises(SizeMismatchError):
        copy_file(
            CLIP,
            source,
            MemoryStaging().create(ID, size_bytes=4),
            expected_bytes=4,
            watch=Watched().watch,
        )

    assert source.given == 2


def test_a_prefix_of_another_file_is_not_gone_on_with() -> None:
    """A file whose end is as before and whose beginning is not is read from its start."""
    content = b"A" * (4 * OVERLAP_BYTES)
    for changed_at in (0, OVERLAP_BYTES + OVERLAP_BYTES // 3 + 5):
        _, slot, resume = begun(content[: 3 * OVERLAP_BYTES], size_bytes=len(content))
        other = content[:changed_at] + b"B" + content[changed_at + 1 :]

        copied = copy(
            one_file(other), slot, Watched(), resume=resume, checkpoint_bytes=OVERLAP_BYTES
        )

        assert copied.digests.sha256 == sha256_hex(other)
        assert copied.resumed_bytes == 0
