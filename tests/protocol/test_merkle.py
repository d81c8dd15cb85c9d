"""The custody log's tree against its definition, and against the public proof vectors."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProofError
from protocol.merkle import (
    check_consistency,
    check_inclusion,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    root,
)

_VECTORS = Path(__file__).resolve().parents[3] / "shared/vectors/merkle"
_MOST = 70


def _entry(index: int) -> bytes:
    return b"entry %d" % index


def _nodes(level: int, index: int) -> bytes:
    if level == 0:
        return leaf_hash(_entry(index))
    return node_hash(_nodes(level - 1, 2 * index), _nodes(level - 1, 2 * index + 1))


def _defined_root(begin: int, end: int) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if begin == end:
        return hashlib.sha256().digest()
    if end - begin == 1:
        return leaf_hash(_entry(begin))
    split = next(1 << k for k in range(64) if 1 << k < end - begin <= 2 << k)
    return node_hash(_defined_root(begin, begin + split), _defined_root(begin + split, end))


@given(size=st.integers(0, _MOST))
def test_the_root_is_as_defined(size: int) -> None:
    """Also of no entry, and of one."""
    assert root(size, _nodes) == _defined_root(0, size)


@given(st.data())
def test_every_entry_can_be_shown(data: st.DataObject) -> None:
    """And no other entry, no other place and no other size with the same proof."""
    size = data.draw(st.integers(1, _MOST))
    index = data.draw(st.integers(0, size - 1))
    proof = prove_inclusion(index, size, _nodes)
    tree = root(size, _nodes)

    check_inclusion(index, size, leaf_hash(_entry(index)), proof, tree)

    other = data.draw(st.integers(0, size - 1).filter(lambda one: one != index) | st.none())
    with pytest.raises(ProofError):
        check_inclusion(index, size, leaf_hash(_entry(size)), proof, tree)
    if other is not None:
        with pytest.raises(ProofError):
            check_inclusion(other, size, leaf_hash(_entry(index)), proof, tree)


@given(st.data())
def test_every_beginning_can_be_shown(data: st.DataObject) -> None:
    """A tree begins with each smaller one of the same entries, and with no other."""
    size = data.draw(st.integers(1, _MOST))
    earlier = data.draw(st.integers(1, size))
    proof = prove_consistency(earlier, size, _nodes)
    before, after = root(earlier, _nodes), root(size, _nodes)

    check_consistency(earlier, size, proof, before, after)

    with pytest.raises(ProofError):
        check_consistency(earlier, size, proof, leaf_hash(b"another"), after)
    with pytest.raises(ProofError):
        check_consistency(earlier, size, proof, before, leaf_hash(b"another"))


@given(
    sizes=st.tuples(st.integers(-2, _MOST), st.integers(-2, _MOST)),
    untrusted=st.lists(st.binary(max_size=40), max_size=9),
)
def test_no_proof_makes_it_stumble(sizes: tuple[int, int], untrusted: list[bytes]) -> None:
    """Whatever is sent, there is an answer, and it is no."""
    some = leaf_hash(b"some")
    with pytest.raises(ProofError):
        check_inclusion(*sizes, some, untrusted, leaf_hash(b"root"))
    with pytest.raises(ProofError):
        check_consistency(*sizes, untrusted, some, leaf_hash(b"root"))


@pytest.mark.parametrize("sizes", [(0, 0), (3, 3), (4, 3), (-1, 3)])
def test_what_is_not_there_cannot_be_shown(sizes: tuple[int, int]) -> None:
    """An entry beyond the end, the beginning with nothing."""
    with pytest.raises(ValueError, match="no entry"):
        prove_inclusion(*sizes, _nodes)
    if sizes[0] != sizes[1] or not sizes[0]:
        with pytest.raises(ValueError, match="does not begin"):
            prove_consistency(*sizes, _nodes)


def _public(kind: str) -> list[dict[str, Any]]:
    if not _VECTORS.is_dir():
        pytest.skip("the public proof vectors are not beside this clone")  # in CI: a failure
    return [json.loads(path.read_text()) for path in sorted(_VECTORS.glob(f"{kind}/**/*.json"))]


def _hash(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_the_public_inclusion_proofs() -> None:
    """Good ones are taken, tampered ones are not."""
    vectors = _public("inclusion")
    assert {one["wantErr"] for one in vectors} == {True, False}
    for one in vectors:
        facts = (one["leafIdx"], one["treeSize"], _hash(one["leafHash"]))
        proof = [_hash(part) for part in one["proof"] or ()]
        if one["wantErr"]:
            with pytest.raises(ProofError):
                check_inclusion(*facts, proof, _hash(one["root"]))
        else:
            check_inclusion(*facts, proof, _hash(one["root"]))


def test_the_public_consistency_proofs() -> None:
    """Likewise."""
    vectors = _public("consistency")
    assert {one["wantErr"] for one in vectors} == {True, False}
    for one in vectors:
        proof = [_hash(part) for part in one["proof"] or ()]
        facts = (one["size1"], one["size2"], proof, _hash(one["root1"]), _hash(one["root2"]))
        if one["wantErr"]:
            with pytest.raises(ProofError):
                check_consistency(*facts)
        else:
            check_consistency(*facts)


def test_a_part_of_another_length_is_none() -> None:
    """Two of them would be hashed as other two are."""
    left, right = bytes(31), b"\0" + leaf_hash(b"x")
    with pytest.raises(ProofError, match="no SHA-256"):
        check_inclusion(1, 2, leaf_hash(b"x"), [left], node_hash(left, leaf_hash(b"x")))
    with pytest.raises(ProofError, match="no SHA-256"):
        check_consistency(1, 2, [right], bytes(32), node_hash(bytes(32), right))
