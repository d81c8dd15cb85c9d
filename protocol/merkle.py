"""The tree of the custody log (RFC 6962, section 2.1): roots and proofs, from hashes to hashes.

Whoever has the root of a tree can check, with a few hashes, that an entry is in it and that a later
tree still begins with it. Nodes are numbered as in C2SP tlog-tiles: level 0 has the leaves; node
*index* of *level* stands over the leaves from ``index << level`` on, ``1 << level`` of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from protocol.errors import ProofError

HASH_BYTES: Final = 32

# Returns the hash of a node by level and index. It is only asked for nodes all of whose leaves are
# there: these never change any more.
Nodes = Callable[[int, int], bytes]

# Leaves, from the first to before the second.
_Span = tuple[int, int]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry, as it stands in the tree."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node by those below it."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(size: int, nodes: Nodes) -> bytes:
    """Return the root of the tree of the first *size* entries; SHA-256 of nothing for none."""
    return _span(0, size, nodes) if size else hashlib.sha256().digest()


def prove_inclusion(index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return what shows that entry *index* is in the tree of the first *size* ones.

    Raises:
        ValueError: It is not.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no entry {index} in a tree of {size}")
    return tuple(_span(*span, nodes) for span in _beside_entry(index, size))


def prove_consistency(earlier: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """Return what shows that the tree of *size* entries begins with that of *earlier* ones.

    Raises:
        ValueError: There is nothing to show of no entries, or there are fewer.
    """
    if not 0 < earlier <= size:
        raise ValueError(f"a tree of {size} does not begin with one of {earlier}")
    first, others = _beside_beginning(earlier, size)
    # A root that stands as a node on the way is not told: who checks has it.
    spans = others if first[0] == 0 else (first, *others)
    return tuple(_span(*span, nodes) for span in spans)


def check_inclusion(
    index: int, size: int, entry_hash: bytes, untrusted_proof: Sequence[bytes], tree_root: bytes
) -> None:
    """Check that an entry of that hash is entry *index* of the tree.

    Raises:
        ProofError: That is not shown.
    """
    if not 0 <= index < size:
        raise ProofError(f"there is no entry {index} in a tree of {size}")
    if len(entry_hash) != HASH_BYTES:
        raise ProofError("the hash of an entry is no SHA-256")
    spans = _beside_entry(index, size)
    found = entry_hash
    for (begin, _), part in zip(spans, _parts(untrusted_proof, len(spans)), strict=True):
        found = node_hash(part, found) if begin < index else node_hash(found, part)
    if found != tree_root:
        raise ProofError("the proof does not lead from the entry to the root")


def check_consistency(
    earlier: int,
    size: int,
    untrusted_proof: Sequence[bytes],
    earlier_root: bytes,
    tree_root: bytes,
) -> None:
    """Check that a tree begins with an earlier one.

    Raises:
        ProofError: That is not shown; of no entries it cannot be.
    """
    if not 0 < earlier <= size:
        raise ProofError(f"a tree of {size} does not begin with one of {earlier}")
    first, others = _beside_beginning(earlier, size)
    if first[0] == 0:
        parts = [earlier_root, *_parts(untrusted_proof, len(others))]
    else:
        parts = _parts(untrusted_proof, 1 + len(others))
    before = after = parts[0]
    for (begin, _), part in zip(others, parts[1:], strict=True):
        if begin < earlier:
            before, after = node_hash(part, before), node_hash(part, after)
        else:
            after = node_hash(after, part)
    if (before, after) != (earlier_root, tree_root):
        raise ProofError("the proof does not lead from one root to the other")


def _beside_entry(index: int, size: int) -> list[_Span]:
    """Return what stands beside the way from an entry up to the root, lowest first."""
    begin, end, found = 0, size, list[_Span]()
    while end - begin > 1:
        middle = begin + _largest_power_below(end - begin)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((begin, middle))
            begin = middle
    return found[::-1]


def _beside_beginning(earlier: int, size: int) -> tuple[_Span, list[_Span]]:
    """Return the last whole part of an earlier tree, and what stands beside its way up."""
    begin, end, found = 0, size, list[_Span]()
    while end != earlier:
        middle = begin + _largest_power_below(end - begin)
        if earlier <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((begin, middle))
            begin = middle
    return (begin, end), found[::-1]


def whole_nodes(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield level and index of the nodes that cover the leaves from *begin* to *end*, from left.

    Each is the highest whose leaves are all there; *begin* is such that one can begin there.
    """
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield level, begin >> level
        begin += 1 << level


def _span(begin: int, end: int, nodes: Nodes) -> bytes:
    """Return the hash over the leaves from *begin* to *end*, *end* not among them."""
    *rest, last = (nodes(level, index) for level, index in whole_nodes(begin, end))
    for left in reversed(rest):
        last = node_hash(left, last)
    return last


def _largest_power_below(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def _parts(untrusted_proof: Sequence[bytes], expected: int) -> list[bytes]:
    if len(untrusted_proof) != expected:
        raise ProofError(f"a proof of {len(untrusted_proof)} parts where it has {expected}")
    if any(len(part) != HASH_BYTES for part in untrusted_proof):
        raise ProofError("a part of a proof is no SHA-256")
    return list(untrusted_proof)
