"""Staging on the dock's own disk: ``partial/`` for copies on their way, ``files/`` for sealed ones.

A sealed copy that the journal does not know is footage all the same: it goes to ``orphaned/``,
where nothing of ours deletes it.

Every call blocks. An OSError is the disk's own word and is passed on as it is.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.errors import CopyDiffersError
from edge_agent.ingest.files import FileId
from edge_agent.ingest.room import UNLIMITED_FILES
from edge_agent.staging.slot import ReadBack
from protocol.digest import StreamDigest
from runtime import durable
from runtime.eviction import Eviction, evict
from runtime.reading import read_chunks

# Room that staging leaves to the journal, which shares the disk and must be able to say "full".
RESERVE_BYTES: Final = 256 * 1024 * 1024
# Likewise, of file systems that have so many files and no more.
RESERVE_FILES: Final = 16


class StagingDisk:
    """The folder that holds a dock's copies; keeps the contract of `Staging`."""

    def __init__(self, root: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        """Use *root*, and create it if it is not there.

        Raises:
            OSError: The disk failed.
        """
        self._partial = root / "partial"
        self._files = root / "files"
        self._orphaned = root / "orphaned"
        self._number = root / "journal-number"
        self._reserve_bytes = reserve_bytes
        for folder in (self._partial, self._files, self._orphaned):
            durable.make_directories(folder)

    def create(self, file_id: FileId, *, size_bytes: int) -> "DiskSlot":
        """Return an empty slot with room for *size_bytes*."""
        # A copy may have been sealed just before a power cut that its journal row did not survive.
        _unlink(self._files / file_id)
        partial = self._partial / file_id
        return DiskSlot(
            _new_file(partial, size_bytes),
            partial=partial,
            sealed=self._files / file_id,
            size_bytes=size_bytes,
        )

    def reopen(self, file_id: FileId, *, size_bytes: int, stored_bytes: int) -> "DiskSlot":
        """Return the slot of an unfinished copy, cut to *stored_bytes*; else an empty one."""
        partial = self._partial / file_id
        self._take_back(file_id)
        fd = _existing_file(partial, stored_bytes)
        if fd is None:
            return self.create(file_id, size_bytes=size_bytes)
        return DiskSlot(
            fd,
            partial=partial,
            sealed=self._files / file_id,
            size_bytes=size_bytes,
            stored_bytes=stored_bytes,
        )

    def open(self, file_id: FileId) -> BinaryIO:
        """Open a sealed copy for reading."""
        return (self._files / file_id).open("rb")

    def remove(self, file_id: FileId) -> None:
        """Free a copy, sealed or not, durably."""
        for folder in (self._partial, self._files):
            if _unlink(folder / file_id):
                durable.sync_directory(folder)

    def sweep(self, known_file_ids: Collection[FileId]) -> tuple[str, ...]:
        """Remove unfinished copies of nobody, put sealed ones aside; return where they were."""
        for path in self._number.parent.glob(f".{self._number.name}.*"):
            path.unlink()  # the power went while `belong_to` was writing
        swept = []
        for path in self._strange(self._partial, known_file_ids):
            path.unlink()
            swept.append(f"partial/{path.name}")
        durable.sync_directory(self._partial)
        for path in self._strange(self._files, known_file_ids):
            self._put_aside(path)
            swept.append(f"files/{path.name}")
        return tuple(swept)

    def journal_number(self) -> int | None:
        """Return which journal the copies belong to; None before `belong_to`."""
        try:
            text = self._number.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        return int(text) if text.isdecimal() else 0

    def belong_to(self, journal_number: int) -> None:
        """Note durably which journal the copies belong to."""
        durable.replace_file(self._number, f"{journal_number}\n".encode("ascii"))

    def sealed_count(self) -> int:
        """Return how many sealed copies there are."""
        return sum(1 for _ in self._files.iterdir())

    def orphaned_count(self) -> int:
        """Return how many sealed copies were put aside and wait for a person."""
        return sum(1 for _ in self._orphaned.iterdir())

    def free_bytes(self) -> int:
        """Return what the disk has left, less the reserve."""
        space = os.statvfs(self._partial)
        return max(0, space.f_bavail * space.f_frsize - self._reserve_bytes)

    def free_files(self) -> int:
        """Return how many more files the disk takes, less the reserve."""
        space = os.statvfs(self._partial)
        if space.f_files == 0:  # statvfs(3) of those that make room for files as they come
            return UNLIMITED_FILES
        return max(0, space.f_favail - RESERVE_FILES)

    def _take_back(self, file_id: FileId) -> None:
        """Make a copy unfinished again that was sealed just before a power cut.

        Its journal row did not survive that; what the row before it promised is in this file.
        """
        with contextlib.suppress(FileNotFoundError):
            try:
                durable.rename_no_replace(self._files / file_id, self._partial / file_id)
            except FileExistsError:
                _unlink(self._files / file_id)

    def _strange(self, folder: Path, known_file_ids: Collection[FileId]) -> list[Path]:
        return sorted(path for path in folder.iterdir() if path.name not in known_file_ids)

    def _put_aside(self, path: Path) -> None:
        for number in itertools.count():
            aside = self._orphaned / (f"{path.name}.{number}" if number else path.name)
            with contextlib.suppress(FileExistsError):
                durable.rename_no_replace(path, aside)
                return


class DiskSlot:
    """A file under ``partial/`` that is being written; keeps the contract of `StagingSlot`."""

    def __init__(
        self, fd: int, *, partial: Path, sealed: Path, size_bytes: int, stored_bytes: int = 0
    ) -> None:
        """Take over *fd*, which is open for writing at *stored_bytes*."""
        self._fd: int | None = fd
        self._partial = partial
        self._sealed = sealed
        self._size_bytes = size_bytes
        self._stored_bytes = stored_bytes
        self._poisoned = False
        # What is held already was noted in the journal, so the name was made durable before.
        self._has_durable_name = stored_bytes > 0

    @property
    def stored_bytes(self) -> int:
        """How much it holds."""
        return self._stored_bytes

    def stored(self, *, offset_bytes: int) -> Iterator[memoryview]:
        """Read back what it holds, from the disk as far as the kernel lets go of its memory."""
        evict(self._writable(), size_bytes=self._stored_bytes)
        with self._partial.open("rb", buffering=0) as file:
            file.seek(offset_bytes)
            yield from read_chunks(file.fileno())

    def append(self, chunk: bytes | memoryview) -> None:
        """Write *chunk* at the end."""
        with self._poisoning():
            durable.write_all(self._writable(), chunk)
        self._stored_bytes += len(chunk)

    def sync(self) -> None:
        """Make all that was appended durable, and the file's name."""
        self._sync_content()
        if not self._has_durable_name:
            with self._poisoning():
                durable.sync_directory(self._partial.parent)
            self._has_durable_name = True

    def restart(self) -> None:
        """Throw away what it holds, and begin anew in another file."""
        self.discard()
        self._fd = _new_file(self._partial, self._size_bytes)
        self._stored_bytes = 0
        self._poisoned = False
        self._has_durable_name = False

    def seal(self, *, sha256: str, read_back: bool) -> ReadBack:
        """Sync, read back, compare, give the file its name, sync both folders."""
        self._sync_content()
        proof = ReadBack(compared=False, evicted=False)
        if read_back:
            proof = self._read_back(sha256)
        with self._poisoning():
            durable.rename_no_replace(self._partial, self._sealed)
        self.close()
        return proof

    def close(self) -> None:
        """Keep what was synced."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def discard(self) -> None:
        """Delete the file."""
        # Closing writes nothing that matters any more; whatever it says is about lost content.
        with contextlib.suppress(OSError):
            self.close()
        _unlink(self._partial)

    def _sync_content(self) -> None:
        with self._poisoning():
            durable.sync_file(self._writable())

    def _read_back(self, sha256: str) -> ReadBack:
        evicted = evict(self._writable(), size_bytes=self._stored_bytes) is Eviction.PROVED
        digest = StreamDigest()
        with self._partial.open("rb", buffering=0) as file:
            for chunk in read_chunks(file.fileno()):
                digest.update(chunk)
        found = digest.digests().sha256
        if found != sha256:
            self.discard()
            raise CopyDiffersError(self._partial.name, written_sha256=sha256, found_sha256=found)
        return ReadBack(compared=True, evicted=evicted)

    @contextlib.contextmanager
    def _poisoning(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._poisoned = True
            raise

    def _writable(self) -> int:
        if self._fd is None or self._poisoned:
            raise OSError(errno.EIO, "an earlier write or sync failed, or the slot is closed")
        return self._fd


def _new_file(path: Path, size_bytes: int) -> int:
    _unlink(path)
    return durable.create_exclusive(path.parent, path.name, preallocate_bytes=size_bytes)


def _existing_file(path: Path, stored_bytes: int) -> int | None:
    """Open a file for writing after its first *stored_bytes*; None if it has not as many."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(fd).st_size < stored_bytes:
            os.close(fd)
            return None
        os.ftruncate(fd, stored_bytes)
        os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        os.close(fd)
        raise
    return fd


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
