import itertools

import pytest

from edge_agent.staging.evidence import achieved_level, lowered_findings
from edge_agent.staging.slot import ReadBack
from protocol.manifest import EvidenceLevel

L1, L2, L3 = EvidenceLevel


@pytest.mark.parametrize(
    ("requested", "compared", "evicted", "second", "achieved"),
    [
        (L1, True, True, True, L1),
        (L2, True, True, None, L2),
        (L2, True, False, None, L1),
        (L2, False, True, None, L1),
        (L3, True, True, True, L3),
        (L3, True, True, False, L2),
        (L3, True, True, None, L2),
        (L3, True, False, True, L1),
    ],
)
def test_a_level_is_what_was_proved(
    *,
    requested: EvidenceLevel,
    compared: bool,
    evicted: bool,
    second: bool | None,
    achieved: EvidenceLevel,
) -> None:
    """The read-back counts only from the disk, the second read only on top of it."""
    proof = ReadBack(compared=compared, evicted=evicted)

    assert achieved_level(requested, proof, second_read_equal=second) is achieved


def test_no_level_is_higher_than_asked() -> None:
    """Whatever was proved, the level is at most the one that the site asks for."""
    facts = itertools.product(EvidenceLevel, (False, True), (False, True), (None, False, True))

    for requested, compared, evicted, second in facts:
        proof = ReadBack(compared=compared, evicted=evicted)
        level = achieved_level(requested, proof, second_read_equal=second)
        assert level.value <= requested.value


def test_a_lowered_level_is_told_once() -> None:
    """A disk that proves nothing gives one finding, not one for each file."""
    assert not lowered_findings(L2, {b"a": L2})
    [finding] = lowered_findings(L2, {b"a": L2, b"b": L1, b"c": L1})
    assert finding.path == "b"
    assert finding.detail.startswith("2 of 3 files, down to L1")
