"""Copy one file off a recorder, hashing what was read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final, Protocol

from edge_agent.errors import IngestError, SizeMismatchError
from edge_agent.ingest.volume import SourceFile
from protocol.digest import Digests, StreamDigest

# A kill or a power cut costs so much reading again: some 1.6 s of a USB High-Speed recorder.
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
# How much is read from the recorder again, at either end of a prefix, before a copy goes on.
OVERLAP_BYTES: Final = 1024 * 1024
# So many parts in between are compared as well.
_SAMPLES: Final = 8
_SAMPLE_BYTES: Final = 64 * 1024


class CopySlot(Protocol):
    """A place on the dock's own disk that takes one file; see edge_agent.staging.slot."""

    @property
    def stored_bytes(self) -> int:
        """How much it holds; the next chunk goes there."""

    def stored(self, *, offset_bytes: int) -> Iterator[bytes | memoryview]:
        """Read back what it holds, from *offset_bytes* on."""

    def append(self, chunk: bytes | memoryview) -> None:
        """Write *chunk* at the end."""

    def sync(self) -> None:
        """Make all that was appended durable."""

    def sync_behind(self, then: Callable[[], None]) -> None:
        """Make all that was appended so far durable while more is appended, then call *then*."""

    def restart(self) -> None:
        """Throw away what it holds, and begin anew in another file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Up to where an earlier docking came: that many bytes, and what they hash to."""

    offset_bytes: int
    prefix_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyWatch:
    """What is called while a file is copied.

    Attributes:
        progress: With the number of bytes that the slot holds; may raise CopyStoppedError.
        checkpoint: With the number of durable bytes and their SHA-256; in any thread.
        forget: Before bytes that a checkpoint was about are thrown away; when it returns, nobody
            counts on them.
    """

    progress: Callable[[int], None]
    checkpoint: Callable[[int, str], None]
    forget: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A file as it was read from its recorder; not sealed yet.

    Attributes:
        resumed_bytes: How much of it an earlier docking had read.
    """

    size_bytes: int
    digests: Digests
    resumed_bytes: int


def copy_file(
    untrusted_path: bytes,
    source: SourceFile,
    slot: CopySlot,
    *,
    expected_bytes: int,
    watch: CopyWatch,
    resume: Resume | None = None,
    with_sm3: bool = False,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
) -> CopiedFile:
    """Copy a file into *slot*, from where an earlier docking stopped if that can be trusted.

    The digest covers the bytes as the recorder gave them, so a fault of the dock's own disk shows
    when the slot is read back. A resumed prefix is read back from the slot and must hash to what
    the journal says, and its ends and some parts in between must be what the recorder has there;
    else it starts anew. Whatever ends the reading early, what was read is durable and checkpointed.

    Args:
        untrusted_path: As the recorder gave it; a label here, never opened.
        source: Open.
        slot: Empty, or holding the prefix that *resume* describes. The caller seals it, keeps it
            as it is after an IngestError, and discards it after an OSError.
        expected_bytes: The size in the listing.
        watch: Called in this thread.
        resume: From the journal.
        with_sm3: Whether to hash with SM3 as well.
        checkpoint_bytes: How far apart checkpoints are, >= 1.

    Raises:
        SizeMismatchError: More or fewer than *expected_bytes*; what was read is worth nothing.
        IngestError: From *source* or *watch*.
        OSError: The dock's own disk failed.
    """
    _check_size(untrusted_path, source.size_bytes, expected_bytes=expected_bytes)
    digest = _resumed_digest(source, slot, resume, with_sm3=with_sm3)
    chunks = None if digest is None else _beyond_overlap(source, slot)
    if digest is None or chunks is None:
        _empty(slot, watch)
        digest, chunks = StreamDigest(with_sm3=with_sm3), source.chunks(offset_bytes=0)
    resumed_bytes = digest.size_bytes
    watch.progress(resumed_bytes)
    durable_bytes = resumed_bytes
    try:
        for chunk in _bounded(chunks, expected_bytes - resumed_bytes):
            digest.update(chunk)
            slot.append(chunk)
            watch.progress(digest.size_bytes)
            if digest.size_bytes - durable_bytes >= checkpoint_bytes:
                durable_bytes = digest.size_bytes
                slot.sync_behind(_telling(watch, digest))
    except IngestError:
        if digest.size_bytes > durable_bytes:
            _checkpoint(slot, digest, watch)
        raise
    _check_size(untrusted_path, digest.size_bytes, expected_bytes=expected_bytes)
    return CopiedFile(
        size_bytes=digest.size_bytes, digests=digest.digests(), resumed_bytes=resumed_bytes
    )


def hash_again(source: SourceFile, *, progress: Callable[[], None]) -> str:
    """Read a file a second time and return its SHA-256; *progress* is called for each chunk.

    Raises:
        IngestError: From *source* or *progress*.
    """
    digest = StreamDigest()
    for chunk in source.chunks(offset_bytes=0):
        digest.update(chunk)
        progress()
    return digest.digests().sha256


def _resumed_digest(
    source: SourceFile, slot: CopySlot, resume: Resume | None, *, with_sm3: bool
) -> StreamDigest | None:
    """Return the digest of what the slot holds, if journal and recorder say the same of it."""
    if resume is None or not resume.offset_bytes or slot.stored_bytes != resume.offset_bytes:
        return None
    digest = StreamDigest(with_sm3=with_sm3)
    samples = _samples(resume.offset_bytes)
    kept = {start: b"" for start, _ in samples}
    for chunk in slot.stored(offset_bytes=0):
        for start, end in samples:
            position = digest.size_bytes
            kept[start] += bytes(chunk[max(0, start - position) : max(0, end - position)])
        digest.update(chunk)
    matches = (digest.size_bytes, digest.digests().sha256) == (
        resume.offset_bytes,
        resume.prefix_sha256,
    )
    same = matches and all(
        source.read_at(start, end - start) == kept[start] for start, end in samples
    )
    return digest if same else None


def _samples(prefix_bytes: int) -> tuple[tuple[int, int], ...]:
    """Return from where to where a prefix is compared, its end aside."""
    starts = (prefix_bytes * number // (_SAMPLES + 1) for number in range(1, _SAMPLES + 1))
    inside = ((start, min(start + _SAMPLE_BYTES, prefix_bytes)) for start in starts)
    first = (0, min(OVERLAP_BYTES, prefix_bytes))
    return tuple({first[0]: first, **{one[0]: one for one in inside if one[0]}}.values())


def _beyond_overlap(source: SourceFile, slot: CopySlot) -> Iterator[bytes | memoryview] | None:
    """Compare the end of what the slot holds with the source; return what follows it there.

    Returns:
        None if the source has something else there.
    """
    offset_bytes = max(0, slot.stored_bytes - OVERLAP_BYTES)
    wanted = b"".join(slot.stored(offset_bytes=offset_bytes))
    chunks = source.chunks(offset_bytes=offset_bytes)
    beyond = b""
    while wanted:
        chunk = next(chunks, None)
        if chunk is None or chunk[: len(wanted)] != wanted[: len(chunk)]:
            return None
        beyond = bytes(chunk[len(wanted) :])
        wanted = wanted[len(chunk) :]
    return chain((beyond,) if beyond else (), chunks)


def _bounded(chunks: Iterator[bytes | memoryview], room_bytes: int) -> Iterator[bytes | memoryview]:
    """Pass chunks on; of a file that has grown, one byte too many shows that it has."""
    for chunk in chunks:
        yield chunk[: room_bytes + 1]
        room_bytes -= len(chunk)
        if room_bytes < 0:
            return


def _check_size(untrusted_path: bytes, read_bytes: int, *, expected_bytes: int) -> None:
    if read_bytes != expected_bytes:
        raise SizeMismatchError(
            untrusted_path, expected_bytes=expected_bytes, read_bytes=read_bytes
        )


def _empty(slot: CopySlot, watch: CopyWatch) -> None:
    if slot.stored_bytes:
        watch.forget()
        slot.restart()


def _telling(watch: CopyWatch, digest: StreamDigest) -> Callable[[], None]:
    return partial(watch.checkpoint, digest.size_bytes, digest.digests().sha256)


def _checkpoint(slot: CopySlot, digest: StreamDigest, watch: CopyWatch) -> int:
    slot.sync()
    watch.checkpoint(digest.size_bytes, digest.digests().sha256)
    return digest.size_bytes
