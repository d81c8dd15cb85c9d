"""How a custody log lies in files: its tree in tiles of 256 hashes, its entries in bundles.

A tile of level *n* has the roots of whole tiles of the level below; tiles of level 0 have the
hashes of entries. The last tile of each level may be partial: it has its width in its name, and is
never written again. Index 1,234,067 of level 0 is ``tile/0/x001/x234/067``.

Source:
    C2SP tlog-tiles.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import ProofError
from protocol.merkle import HASH_BYTES, Nodes, leaf_hash, node_hash

TILE_WIDTH: Final = 256
MAX_ENTRY_BYTES: Final = (1 << 16) - 1
CHECKPOINT: Final = "checkpoint"

_TILE_HEIGHT: Final = 8
_LENGTH_BYTES: Final = 2
_HIGHEST_LEVEL: Final = 63
_ENTRIES: Final = "entries"
_GROUP: Final = 1_000


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Tile:
    """One file of a log.

    Attributes:
        level: Of its hashes; None for a bundle of entries.
        index: Within its level.
        width: How many hashes or entries it has, 1 to TILE_WIDTH.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def is_full(self) -> bool:
        """Whether nothing more can come to it."""
        return self.width == TILE_WIDTH

    @property
    def path(self) -> str:
        """Where it is, relative to the log."""
        level = _ENTRIES if self.level is None else str(self.level)
        return f"tile/{level}/{_index_path(self.index)}" + (
            "" if self.is_full else f".p/{self.width}"
        )


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the tiles of a log of *size* entries that one of *since* did not have.

    Bundles of entries come first, then each level before the one above it. Of each only the last
    may be partial.
    """
    for level in (None, *range(_HIGHEST_LEVEL + 1)):
        shift = _TILE_HEIGHT * (level or 0)
        before, count = since >> shift, size >> shift
        if not count:
            return
        for index in range(before // TILE_WIDTH, -(-count // TILE_WIDTH)):
            width = min(TILE_WIDTH, count - index * TILE_WIDTH)
            if index * TILE_WIDTH + width > before:
                yield Tile(level=level, index=index, width=width)


def tile_of_node(level: int, index: int) -> tuple[int, int, slice]:
    """Return in which tile a node of the tree is: level and index, and which of its hashes."""
    height = level % _TILE_HEIGHT
    first = index << height
    start = first % TILE_WIDTH
    return level // _TILE_HEIGHT, first // TILE_WIDTH, slice(start, start + (1 << height))


def nodes_in(read_rows: Callable[[int, int], Sequence[Sequence[bytes]]]) -> Nodes:
    """Return how to ask for nodes of a tree by its tiles.

    Args:
        read_rows: Returns `rows_above` the hashes of a tile, by its level and index.
    """

    def node(level: int, index: int) -> bytes:
        tile_level, tile_index, which = tile_of_node(level, index)
        rows = read_rows(tile_level, tile_index)
        height = (which.stop - which.start).bit_length() - 1
        at = which.start >> height
        if height >= len(rows) or at >= len(rows[height]):
            raise ProofError(f"tile {tile_index} of level {tile_level} ends too early")
        found: bytes = rows[height][at]
        return found

    return node


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over so many hashes: a power of two."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def rows_above(hashes: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Return hashes and, row by row, the whole nodes above them; the last row has at most one."""
    rows = [hashes]
    while len(row := rows[-1]) > 1:
        rows.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    return rows


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return entries as they lie in a bundle.

    Raises:
        ValueError: One is longer than MAX_ENTRY_BYTES.
    """
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise ValueError("an entry is too long for a bundle")
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES) + entry for entry in entries)


def parse_bundle(untrusted: bytes, *, width: int) -> tuple[bytes, ...]:
    """Return the entries of a bundle.

    Raises:
        ProofError: There are not exactly *width*.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(untrusted) and len(entries) < width:
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(untrusted[at:begin])
        entries.append(untrusted[begin:at])
    if len(entries) != width or at != len(untrusted):
        raise ProofError(f"a bundle that has not exactly {width} entries")
    return tuple(entries)


def parse_tile(untrusted: bytes, *, width: int) -> tuple[bytes, ...]:
    """Return the hashes of a tile.

    Raises:
        ProofError: There are not exactly *width*.
    """
    if len(untrusted) != width * HASH_BYTES:
        raise ProofError(f"a tile of {len(untrusted)} bytes has not exactly {width} hashes")
    return tuple(untrusted[at : at + HASH_BYTES] for at in range(0, len(untrusted), HASH_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The right edge of a tree: all that is needed to go on, and to tell the root.

    Attributes:
        size: Entries of the tree.
        tail: The entries that are in no full bundle yet.
        rows: Of each level the hashes that are in no full tile yet.
    """

    size: int = 0
    tail: tuple[bytes, ...] = ()
    rows: tuple[tuple[bytes, ...], ...] = ()

    def extend(self, entries: Sequence[bytes]) -> tuple["Edge", dict[Tile, bytes]]:
        """Return the edge with *entries* behind it, and the files that are new then.

        Raises:
            ValueError: An entry is longer than MAX_ENTRY_BYTES.
        """
        bundled = (*self.tail, *entries)
        size = self.size + len(entries)
        grown: list[tuple[bytes, ...]] = []
        new = [leaf_hash(entry) for entry in entries]
        while new:
            level = len(grown)
            row = (*self._row(level), *new)
            grown.append(row)
            starts = range(0, len(row) - TILE_WIDTH + 1, TILE_WIDTH)
            new = [fold(row[start : start + TILE_WIDTH]) for start in starts]
        files: dict[Tile, bytes] = {}
        for tile in tiles_of(size, since=self.size):
            start = self._start(tile)
            if tile.level is None:
                files[tile] = encode_bundle(bundled[start : start + tile.width])
            else:
                files[tile] = b"".join(grown[tile.level][start : start + tile.width])
        rows = (*map(_rest, grown), *self.rows[len(grown) :])
        return Edge(size=size, tail=_rest(bundled), rows=rows), files

    def nodes(self, level: int, index: int) -> bytes:
        """Return a node that stands in one of the last tiles, as `protocol.merkle.root` asks."""
        tile_level, _, which = tile_of_node(level, index)
        return fold(self._row(tile_level)[which])

    def _row(self, level: int) -> tuple[bytes, ...]:
        return self.rows[level] if level < len(self.rows) else ()

    def _start(self, tile: Tile) -> int:
        """Return where a new tile begins in a row that begins with what was the last one."""
        first = (self.size >> _TILE_HEIGHT * (tile.level or 0)) // TILE_WIDTH
        return (tile.index - first) * TILE_WIDTH


def _rest(row: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return row[len(row) // TILE_WIDTH * TILE_WIDTH :]


def _index_path(index: int) -> str:
    parts = [f"{index % _GROUP:03d}"]
    while index := index // _GROUP:
        parts.append(f"x{index % _GROUP:03d}")
    return "/".join(reversed(parts))
