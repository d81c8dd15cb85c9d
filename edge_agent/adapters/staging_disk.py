"""Staging on the dock's own disk: ``partial/`` for copies on their way, ``files/`` for sealed ones.

A sealed copy that the journal does not know is footage all the same: it goes to ``orphaned/``,
where nothing of ours deletes it.

Every call blocks. An OSError is the disk's own word and is passed on as it is.
"""

import contextlib
import itertools
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.adapters.staging_slot import DiskSlot, give_room_back
from edge_agent.adapters.staging_together import TogetherStaging
from edge_agent.adapters.staging_way import Way
from edge_agent.ingest.files import FileId
from edge_agent.ingest.room import UNLIMITED_FILES
from edge_agent.staging.slot import SmallCopy, SmallOutcome
from runtime import durable

# Room that staging leaves to the journal, which shares the disk and must be able to say "full".
RESERVE_BYTES: Final = 256 * 1024 * 1024
# Likewise, of file systems that have so many files and no more.
RESERVE_FILES: Final = 16


class StagingDisk:
    """The folder that holds a dock's copies; keeps the contract of `Staging`."""

    def __init__(
        self, root: Path, *, reserve_bytes: int = RESERVE_BYTES, way: Way | None = None
    ) -> None:
        """Use *root*, and create it if it is not there.

        Args:
            root: A folder on a disk of our own.
            reserve_bytes: Left free.
            way: How bytes go to that disk.

        Raises:
            OSError: The disk failed.
        """
        self._partial = root / "partial"
        self._files = root / "files"
        self._orphaned = root / "orphaned"
        self._number = root / "journal-number"
        self._reserve_bytes = reserve_bytes
        self._way = way or Way()
        for folder in (self._partial, self._files, self._orphaned):
            durable.make_directories(folder)
        self._together = TogetherStaging(self._partial, self._files)

    def create(self, file_id: FileId, *, size_bytes: int) -> DiskSlot:
        """Return an empty slot with room for *size_bytes*."""
        # A copy may have been sealed just before a power cut that its journal row did not survive.
        _unlink(self._files / file_id)
        return self._slot(file_id, size_bytes=size_bytes, stored_bytes=None)

    def reopen(self, file_id: FileId, *, size_bytes: int, stored_bytes: int) -> DiskSlot:
        """Return the slot of an unfinished copy, cut to *stored_bytes*."""
        self._take_back(file_id)
        return self._slot(file_id, size_bytes=size_bytes, stored_bytes=stored_bytes)

    def stage_together(
        self, copies: Sequence[SmallCopy], *, read_back: bool
    ) -> tuple[SmallOutcome, ...]:
        """Make small copies durable under their ids."""
        return self._together.stage(copies, read_back=read_back)

    def open(self, file_id: FileId) -> BinaryIO:
        """Open a sealed copy for reading."""
        return (self._files / file_id).open("rb")

    def remove(self, file_id: FileId) -> None:
        """Free a copy, sealed or not, durably."""
        for folder in (self._partial, self._files):
            if _unlink(folder / file_id):
                durable.sync_directory(folder)

    def sweep(self, known_file_ids: Collection[FileId]) -> tuple[str, ...]:
        """Remove unfinished copies of nobody, put sealed ones aside; return where they were.

        Other unfinished copies give back what room they have and do not need.
        """
        for path in self._number.parent.glob(f".{self._number.name}.*"):
            path.unlink()  # the power went while `belong_to` was writing
        swept = []
        for path in self._strange(self._partial, known_file_ids):
            path.unlink()
            swept.append(f"partial/{path.name}")
        for path in self._partial.iterdir():
            # One copy that the disk cannot open keeps nobody from starting; whoever goes on with
            # it hears of it.
            with contextlib.suppress(OSError):
                _give_room_back(path)
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

    def _slot(self, file_id: FileId, *, size_bytes: int, stored_bytes: int | None) -> DiskSlot:
        return DiskSlot(
            self._partial / file_id,
            sealed=self._files / file_id,
            size_bytes=size_bytes,
            stored_bytes=stored_bytes,
            way=self._way,
        )

    def _strange(self, folder: Path, known_file_ids: Collection[FileId]) -> list[Path]:
        return sorted(path for path in folder.iterdir() if path.name not in known_file_ids)

    def _put_aside(self, path: Path) -> None:
        for number in itertools.count():
            aside = self._orphaned / (f"{path.name}.{number}" if number else path.name)
            with contextlib.suppress(FileExistsError):
                durable.rename_no_replace(path, aside)
                return


def _give_room_back(path: Path) -> None:
    """A slot does so when it is closed; a power cut left it open."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        give_room_back(fd)
    finally:
        os.close(fd)


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
