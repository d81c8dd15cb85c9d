"""How far a copy was proved. What could not be proved is lowered, never assumed."""

from collections.abc import Mapping

from edge_agent.staging.slot import ReadBack
from protocol.findings import Finding, FindingCode
from protocol.manifest import EvidenceLevel, name_of


def achieved_level(
    requested: EvidenceLevel, read_back: ReadBack, *, second_read_equal: bool | None
) -> EvidenceLevel:
    """Return the level that a copy was proved to, at most *requested*.

    Args:
        requested: What the site asks for.
        read_back: What is proved of our copy.
        second_read_equal: Whether the recorder gave the same bytes twice; None if not asked.
    """
    if requested is EvidenceLevel.L1 or not (read_back.compared and read_back.evicted):
        return EvidenceLevel.L1
    if requested is EvidenceLevel.L3 and second_read_equal:
        return EvidenceLevel.L3
    return EvidenceLevel.L2


def lowered_findings(
    requested: EvidenceLevel, levels: Mapping[bytes, EvidenceLevel]
) -> tuple[Finding, ...]:
    """Return one finding if any copy was proved to less than *requested*: a disk does it to all.

    Args:
        requested: What the site asks for.
        levels: What each copy was proved to, by its path on the recorder.
    """
    lowered = {path: level for path, level in levels.items() if level.value < requested.value}
    if not lowered:
        return ()
    lowest = min(level.value for level in lowered.values())
    first = min(lowered)
    detail = f"{len(lowered)} of {len(levels)} files, down to {lowest}; {requested.value} was asked"
    return (Finding(code=FindingCode.EVIDENCE_LOWERED, path=name_of(first).path, detail=detail),)


def second_read_finding(path: bytes, *, first_sha256: str, second_sha256: str) -> Finding:
    """Return the verdict that a recorder gave other bytes the second time."""
    return Finding(
        code=FindingCode.EVIDENCE_LOWERED,
        path=name_of(path).path,
        detail=f"read twice: {first_sha256} was kept, the second time it was {second_sha256}",
    )
