"""The custody log's folder: tiles, bundles and the checkpoint, each durable before the next step.

Every method blocks: call it in a thread. Nothing that a checkpoint stands for is written again; a
file that a stopped run left before it signed is compared, then written anew, for its bytes may
never have reached the disk.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from protocol.errors import IdentifierError, ProofError
from protocol.identifiers import DockId, parse_dock
from protocol.notes import MAX_NOTE_BYTES
from protocol.tiles import CHECKPOINT, MAX_ENTRY_BYTES, TILE_WIDTH, Edge, Tile, tiles_of
from runtime.durable import make_directories, replace_file, write_file
from server_agent.errors import LogChangedError
from server_agent.ledger.log_check import LogReader

# One file for each dock, called by its name.
WATCHED: Final = "watched"

_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755
_MOST_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)


class LogFiles:
    """The files of one log below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._durable: set[Path] = set()

    def read_checkpoint(self) -> bytes | None:
        """Return the checkpoint as it is written; None if there is none.

        Raises:
            OSError: Our disk failed.
        """
        return _read(self.folder / CHECKPOINT, MAX_NOTE_BYTES)

    def read(self, tile: Tile) -> bytes | None:
        """Return the content of a file; of a partial one that became full, its beginning.

        Raises:
            OSError: Our disk failed.
        """
        content = _read(self.folder / tile.path, _MOST_BYTES)
        if content is not None or tile.is_full:
            return content
        full = _read(self.folder / Tile(level=tile.level, index=tile.index).path, _MOST_BYTES)
        return None if full is None else _beginning(full, tile)

    def has_more_than(self, entries: int) -> bool:
        """Return whether the first bundle is of a log of more entries, signed or not.

        Raises:
            OSError: Our disk failed.
        """
        full = self.folder / Tile(level=None, index=0).path
        if full.exists():
            return entries < TILE_WIDTH
        widths = (one.name for one in full.with_name(f"{full.name}.p").glob("*"))
        return any(int(width) > entries for width in widths if width.isdecimal())

    def read_edge(self, size: int) -> Edge:
        """Return what it takes to go on with a log of *size* entries.

        Raises:
            LogChangedError: A file is missing, or is not of its size.
            OSError: Our disk failed.
        """
        reader = LogReader(size, self.read)
        tail: tuple[bytes, ...] = ()
        rows: list[tuple[bytes, ...]] = []
        try:
            for tile in tiles_of(size, since=max(size - 1, 0)):
                if tile.level is None:
                    tail = () if tile.is_full else reader.bundle(tile.index)
            for level in _levels(size):
                count = size >> 8 * level
                partial = count % TILE_WIDTH
                rows.append(tuple(reader.tile(level, count // TILE_WIDTH)) if partial else ())
        except ProofError as error:
            raise LogChangedError(str(error)) from error
        return Edge(size=size, tail=tail, rows=tuple(rows))

    def write(self, files: Mapping[Tile, bytes]) -> None:
        """Make files durable that no checkpoint stands for yet.

        Raises:
            LogChangedError: One is there already, with another content.
            OSError: Our disk failed; writing them again is safe.
        """
        for tile, content in files.items():
            path = self.folder / tile.path
            self._make(path.parent)
            try:
                write_file(path, content, mode=_FILE_MODE)
            except FileExistsError:
                if _read(path, _MOST_BYTES) != content:
                    raise LogChangedError(f"{tile.path} is there with another content") from None
                replace_file(path, content, mode=_FILE_MODE)

    def watched(self) -> dict[DockId, bytes]:
        """Return what each dock saw last: the checkpoint with the dock's cosignature.

        Raises:
            OSError: Our disk failed.
        """
        folder = self.folder / WATCHED
        names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - names
        found: dict[DockId, bytes] = {}
        for name in sorted(names):
            with contextlib.suppress(IdentifierError):  # not ours, or not finished
                note = _read(folder / name, MAX_NOTE_BYTES)
                if note is not None:
                    found[parse_dock(name)] = note
        return found

    def put_watched(self, dock: DockId, note: bytes) -> None:
        """Keep durably what a dock saw last.

        Raises:
            OSError: Our disk failed; the old one or the new one is there.
        """
        self._make(self.folder / WATCHED)
        replace_file(self.folder / WATCHED / dock, note, mode=_FILE_MODE)

    def put_checkpoint(self, note: bytes) -> None:
        """Let *note* be the log's checkpoint, whose files are durable.

        Raises:
            OSError: Our disk failed; the old one or the new one is there.
        """
        self._make(self.folder)
        replace_file(self.folder / CHECKPOINT, note, mode=_FILE_MODE)

    def forget_partials(self, files: Mapping[Tile, bytes]) -> None:
        """Remove the partial files of those that are full; the checkpoint has to be put first.

        Raises:
            OSError: Our disk failed; what stays does no harm.
        """
        for tile in files:
            if tile.is_full:
                partials = self.folder / f"{tile.path}.p"
                self._durable.discard(partials)
                if partials.is_dir():
                    shutil.rmtree(partials)

    def tidy(self) -> None:
        """Remove what a stopped run had not finished writing; take no folder for granted."""
        self._durable.clear()
        for path in self.folder.rglob(".*.partial"):
            with contextlib.suppress(OSError):  # it does no harm
                path.unlink()

    def _make(self, folder: Path) -> None:
        if folder not in self._durable:
            make_directories(folder, mode=_FOLDER_MODE)
            self._durable.add(folder)


def _levels(size: int) -> range:
    levels = 0
    while size >> 8 * levels:
        levels += 1
    return range(levels)


def _read(path: Path, most_bytes: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(most_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _beginning(full: bytes, tile: Tile) -> bytes:
    if tile.level is not None:
        return full[: tile.width * 32]
    at = 0
    for _ in range(tile.width):
        at += 2 + int.from_bytes(full[at : at + 2])
    return full[:at]
