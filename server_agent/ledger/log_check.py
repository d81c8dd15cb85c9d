"""What is wrong with a custody log, and where: every entry and every tile, against a checkpoint."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol.checkpoint import Checkpoint
from protocol.errors import ProofError
from protocol.merkle import leaf_hash, root
from protocol.tiles import (
    TILE_WIDTH,
    Tile,
    fold,
    nodes_in,
    parse_bundle,
    parse_tile,
    rows_above,
    tiles_of,
)

# Returns a file of the log, None if there is none.
ReadTile = Callable[[Tile], bytes | None]

_TILES_KEPT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFault:
    """One thing that is not as it was logged.

    Attributes:
        where: A file of the log, or an entry.
        what: In some words.
    """

    where: str
    what: str


class LogReader:
    """A log of one size, in verified shapes: hashes and entries by tile."""

    def __init__(self, size: int, read: ReadTile) -> None:
        self.size = size
        self._read = read
        self.tile: Callable[[int, int], Sequence[bytes]] = lru_cache(_TILES_KEPT)(self._tile)
        # Of a tile its hashes, and all that stands above them within it.
        self._rows: Callable[[int, int], Sequence[Sequence[bytes]]] = lru_cache(_TILES_KEPT)(
            lambda level, index: rows_above(self.tile(level, index))
        )

    def bundle(self, index: int) -> tuple[bytes, ...]:
        """Return the entries of a bundle.

        Raises:
            ProofError: It is not there, or not of its width.
        """
        tile = self._of(None, index)
        return parse_bundle(self._content(tile), width=tile.width)

    def entries(self, first: int) -> Iterator[bytes]:
        """Yield the entries from *first* on.

        Raises:
            ProofError: As for `bundle`.
        """
        for index in range(first // TILE_WIDTH, -(-self.size // TILE_WIDTH)):
            yield from self.bundle(index)[max(0, first - index * TILE_WIDTH) :]

    def entry(self, index: int) -> bytes:
        """Return one entry.

        Raises:
            ProofError: As for `bundle`.
        """
        return self.bundle(index // TILE_WIDTH)[index % TILE_WIDTH]

    def nodes(self, level: int, index: int) -> bytes:
        """Return a node of the tree, as `protocol.merkle` asks.

        Raises:
            ProofError: A tile is not there, or not of its width.
        """
        return nodes_in(self._rows)(level, index)

    def _tile(self, level: int, index: int) -> Sequence[bytes]:
        tile = self._of(level, index)
        return parse_tile(self._content(tile), width=tile.width)

    def _of(self, level: int | None, index: int) -> Tile:
        count = self.size >> 8 * (level or 0)
        width = min(TILE_WIDTH, count - index * TILE_WIDTH)
        return Tile(level=level, index=index, width=width)

    def _content(self, tile: Tile) -> bytes:
        content = self._read(tile)
        if content is None:
            raise ProofError(f"{tile.path} is missing")
        return content


def check_log(checkpoint: Checkpoint, read: ReadTile) -> Iterator[LogFault]:
    """Yield everything that is wrong with the log of *checkpoint*, whose signature was verified."""
    reader = LogReader(checkpoint.size, read)
    for tile in tiles_of(checkpoint.size):
        yield from _check_bundle(reader, tile) if tile.level is None else _check_tile(reader, tile)
    yield from check_beginning(checkpoint, reader)


def check_beginning(earlier: Checkpoint, reader: LogReader) -> Iterator[LogFault]:
    """Yield what is wrong if a log does not begin with what *earlier* stands for."""
    if earlier.size > reader.size:
        what = f"the log has {reader.size} entries, and had {earlier.size}: it was cut"
        yield LogFault(where="checkpoint", what=what)
        return
    try:
        found = root(earlier.size, reader.nodes)
    except ProofError as error:
        yield LogFault(where="checkpoint", what=f"the root cannot be told: {error}")
        return
    if found != earlier.root:
        what = f"the first {earlier.size} entries are not those that were signed: another history"
        yield LogFault(where="checkpoint", what=what)


def _check_bundle(reader: LogReader, bundle: Tile) -> Iterator[LogFault]:
    try:
        entries = reader.bundle(bundle.index)
    except ProofError as error:
        yield LogFault(where=bundle.path, what=str(error))
        return
    try:
        hashes = reader.tile(0, bundle.index)
    except ProofError:
        return  # is told of the tile
    if any(True for _ in _check_above(reader, 0, bundle.index, hashes)):
        return  # likewise
    for number, (entry, known) in enumerate(zip(entries, hashes, strict=True)):
        if leaf_hash(entry) != known:
            where = f"entry {bundle.index * TILE_WIDTH + number}"
            yield LogFault(where=where, what=f"{bundle.path}: it is not what was logged")


def _check_tile(reader: LogReader, tile: Tile) -> Iterator[LogFault]:
    level = tile.level or 0
    try:
        hashes = reader.tile(level, tile.index)
    except ProofError as error:
        yield LogFault(where=tile.path, what=str(error))
        return
    yield from _check_above(reader, level, tile.index, hashes)


def _check_above(
    reader: LogReader, level: int, index: int, hashes: Sequence[bytes]
) -> Iterator[LogFault]:
    """Yield what is wrong if a full tile is not what stands for it in the tile above."""
    if len(hashes) < TILE_WIDTH:
        return
    try:
        above = reader.tile(level + 1, index // TILE_WIDTH)
    except ProofError:
        return  # is told of the tile above
    if fold(hashes) != above[index % TILE_WIDTH]:
        path = Tile(level=level, index=index).path
        yield LogFault(where=path, what="its hashes are not those that the tile above stands for")
