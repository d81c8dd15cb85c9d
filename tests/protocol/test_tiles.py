"""How a custody log lies in files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProofError
from protocol.merkle import leaf_hash, node_hash, root
from protocol.tiles import (
    MAX_ENTRY_BYTES,
    TILE_WIDTH,
    Edge,
    Tile,
    encode_bundle,
    nodes_in,
    parse_bundle,
    parse_tile,
    rows_above,
    tiles_of,
)


def _entry(index: int) -> bytes:
    return b"entry %d" % index


def _nodes(level: int, index: int) -> bytes:
    if level == 0:
        return leaf_hash(_entry(index))
    return node_hash(_nodes(level - 1, 2 * index), _nodes(level - 1, 2 * index + 1))


def _grow(sizes: list[int]) -> tuple[Edge, dict[str, bytes]]:
    """Let a log have these sizes, one after the other; return its edge and all its files."""
    edge, files = Edge(), dict[str, bytes]()
    for size in sizes:
        edge, new = edge.extend([_entry(index) for index in range(edge.size, size)])
        files |= {tile.path: content for tile, content in new.items()}
    return edge, files


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(level=0, index=1_234_067), "tile/0/x001/x234/067"),
        (Tile(level=0, index=0, width=1), "tile/0/000.p/1"),
        (Tile(level=None, index=999), "tile/entries/999"),
        (Tile(level=63, index=1_000, width=255), "tile/63/x001/000.p/255"),
    ],
)
def test_paths(tile: Tile, path: str) -> None:
    """As the source gives them."""
    assert tile.path == path


def test_the_tiles_of_the_sources_example() -> None:
    """70,000 entries: 273 whole tiles and one of 112, then 1 and 17, then 1."""
    tiles = list(tiles_of(70_000))
    of_level = {level: [one for one in tiles if one.level == level] for level in (None, 0, 1, 2, 3)}

    assert [len(of_level[level]) for level in (None, 0, 1, 2, 3)] == [274, 274, 2, 1, 0]
    assert [of_level[level][-1].width for level in (None, 0, 1, 2)] == [112, 112, 17, 1]
    assert {one.path for one in tiles_of(256)} == {
        "tile/entries/000",
        "tile/0/000",
        "tile/1/000.p/1",
    }


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=6).map(sorted))
def test_a_log_that_grew_has_the_tiles_of_its_size(sizes: list[int]) -> None:
    """In whatever steps: all whole ones, and the last partial ones."""
    grown = set[Tile]()
    for since, size in zip([0, *sizes], sizes, strict=False):
        new = list(tiles_of(size, since=since))
        assert not grown & set(new)
        grown |= set(new)
    assert set(tiles_of(sizes[-1])) <= grown


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=5).map(sorted))
def test_a_growing_log_has_the_right_root_and_files(sizes: list[int]) -> None:
    """In whatever steps it grew, edge and files give the root as it is defined."""
    edge, files = _grow(sizes)
    size = sizes[-1]

    def read_tile(level: int, index: int) -> tuple[bytes, ...]:
        width = min(TILE_WIDTH, (size >> 8 * level) - index * TILE_WIDTH)
        tile = Tile(level=level, index=index, width=width)
        return parse_tile(files[tile.path], width=width)

    assert (
        root(size, edge.nodes)
        == root(size, nodes_in(lambda *tile: rows_above(read_tile(*tile))))
        == root(size, _nodes)
    )
    entries = [
        entry
        for tile in tiles_of(size)
        if tile.level is None
        for entry in parse_bundle(files[tile.path], width=tile.width)
    ]
    assert entries == [_entry(index) for index in range(size)]


def test_whole_tiles_of_a_second_level() -> None:
    """65,536 entries and some fill a tile of level 1."""
    entries = [b""] * (TILE_WIDTH * TILE_WIDTH + 3)
    edge, _ = Edge().extend(entries[:40_000])
    edge, more = edge.extend(entries[40_000:])

    assert Tile(level=1, index=0) in more
    assert Tile(level=2, index=0, width=1) in more
    once, _ = Edge().extend(entries)
    assert root(edge.size, edge.nodes) == root(once.size, once.nodes)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=TILE_WIDTH))
def test_bundles_are_read_back(entries: list[bytes]) -> None:
    """And no bundle is one of another width, cut, or with something behind it."""
    bundle = encode_bundle(entries)

    assert parse_bundle(bundle, width=len(entries)) == tuple(entries)
    for wrong, width in (
        (bundle, len(entries) - 1),
        (bundle, len(entries) + 1),
        (bundle[:-1], len(entries)),
        (bundle + b"\0", len(entries)),
    ):
        with pytest.raises(ProofError):
            parse_bundle(wrong, width=width)


def test_what_is_too_long_is_no_entry() -> None:
    """Its length would not fit; the longest does."""
    assert parse_bundle(encode_bundle([bytes(MAX_ENTRY_BYTES)]), width=1)
    with pytest.raises(ValueError, match="too long"):
        encode_bundle([bytes(MAX_ENTRY_BYTES + 1)])


@given(untrusted=st.binary(max_size=200), width=st.integers(0, TILE_WIDTH))
def test_no_file_makes_it_stumble(untrusted: bytes, width: int) -> None:
    """It is a bundle and a tile of that width, or that is told."""
    for parse in (parse_bundle, parse_tile):
        try:
            found = parse(untrusted, width=width)
        except ProofError:
            continue
        assert len(found) == width


def test_a_tile_that_is_cut_gives_no_node() -> None:
    """It is told, and not folded over what is left."""
    node = nodes_in(lambda _level, _index: rows_above([leaf_hash(b"")] * 3))
    assert node(1, 0)
    with pytest.raises(ProofError, match="too early"):
        node(2, 0)
