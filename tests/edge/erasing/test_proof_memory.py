"""What edge-mount keeps in mind of a recorder that is erased: every bay has its own at once."""

import gc
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta

import pytest

from edge_agent.adapters.proof_file import read_proof
from edge_agent.erasing.claims import MOST_PATHS_BYTES, Claims, DueFiles, ProvedFiles
from edge_agent.erasing.proof import (
    MAX_MANIFEST_BYTES,
    MAX_RECEIPT_BYTES,
    MAX_REGISTRY_BYTES,
    Proof,
)
from edge_agent.ingest.volume import EntryKind, RawEntry
from edge_agent.mounting.errors import EvidenceError
from protocol.digest import ZERO_DIGEST
from protocol.envelope import keyring
from tests.simulators.erasures import (
    ARCHIVED_AT,
    DOCKING,
    Pair,
    manifest_of,
    proof_file,
    with_receipt,
)
from tests.simulators.sealed_manifests import ARCHIVE_KEY

_FEW, _MANY, _A_MANIFEST = 1_000, 5_000, 200
# A path of 50 bytes, its content, and its place in two listings; an object for each takes 1,300.
_MOST_KEPT_BYTES_A_FILE = 250
# While what is kept is put together.
_MOST_BYTES_A_FILE = 1_000
_LATER = ARCHIVED_AT + timedelta(days=1)


def path(number: int) -> bytes:
    return b"DCIM/20260305/012345_0000017_20260305%06d_%04d.MP4" % (number, number)


def pairs(count: int) -> Iterator[Pair]:
    for part, first in enumerate(range(0, count, _A_MANIFEST), start=1):
        clips = {path(number): b"%08d" % number for number in range(first, first + _A_MANIFEST)}
        is_last = first + _A_MANIFEST >= count
        yield with_receipt(manifest_of(clips, number=part, part=part, last_part=is_last))


def listing(count: int) -> Iterator[RawEntry]:
    for number in range(count):
        node = (2_050, 1_000_000 + number)
        yield RawEntry(path=path(number), kind=EntryKind.FILE, size_bytes=8, node=node)


def erase(count: int) -> tuple[int, int]:
    """Return how much is kept while a recorder is erased, and how much it ever was."""
    with proof_file(*pairs(count)) as fd:
        gc.collect()
        tracemalloc.start()
        try:
            kept = look(fd, count)
            gc.collect()
            assert [len(due) for due in kept[1:]] == [count, count]
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()


def look(fd: int, count: int) -> tuple[ProvedFiles, DueFiles, DueFiles]:
    proof = Proof(docking_id=DOCKING, archive_keys=keyring(ARCHIVE_KEY.public))
    read_proof(fd, proof)
    files = proof.close().files
    return files, files.due(listing(count), _LATER), files.due(listing(count), _LATER)


def test_a_file_costs_little_memory() -> None:
    """Neither what is kept, nor what it takes to make that, has an object for each file."""
    few, many = erase(_FEW), erase(_MANY)

    kept, peak = ((more - less) / (_MANY - _FEW) for less, more in zip(few, many, strict=True))
    assert kept < _MOST_KEPT_BYTES_A_FILE
    assert peak < _MOST_BYTES_A_FILE


def test_more_names_than_a_recorder_has() -> None:
    """What comes from others does not decide how much is kept."""
    claims = Claims()
    claims.add_name(b"x" * MOST_PATHS_BYTES, ZERO_DIGEST)

    with pytest.raises(EvidenceError, match="more than"):
        claims.add_name(b"y", ZERO_DIGEST)


_MANIFEST, _RECEIPT = with_receipt(manifest_of({}))


@pytest.mark.parametrize(
    ("registry", "pair", "most_bytes"),
    [
        (bytes(MAX_REGISTRY_BYTES + 1), (_MANIFEST, _RECEIPT), MAX_REGISTRY_BYTES),
        (None, (bytes(MAX_MANIFEST_BYTES + 1), _RECEIPT), MAX_MANIFEST_BYTES),
        (None, (_MANIFEST, bytes(MAX_RECEIPT_BYTES + 1)), MAX_RECEIPT_BYTES),
    ],
    ids=["registry", "manifest", "receipt"],
)
def test_an_envelope_that_is_too_large_is_not_read(
    registry: bytes | None, pair: Pair, most_bytes: int
) -> None:
    """It is refused by its length, whoever signed it: nobody makes such a one."""
    proof = Proof(docking_id=DOCKING, archive_keys=keyring(ARCHIVE_KEY.public))
    with (
        proof_file(pair, registry=registry) as fd,
        pytest.raises(EvidenceError, match=f"at most {most_bytes} are read"),
    ):
        read_proof(fd, proof)
