"""How much of one dock may wait for manifests that have not come; pure."""

from typing import Final

from protocol.findings import FindingCode
from server_agent.intake.checks import Claim, Refused

# A dock publishes in order, so an honest one is never far ahead of what it is asked for.
MAX_AHEAD: Final = 1_000
MAX_WAITING_BYTES: Final = 256 * 1024 * 1024


def judge_window(claim: Claim, *, head_sequence: int, waiting_bytes: int) -> Refused | None:
    """Return why a manifest that would have to wait is not kept; None if there is room.

    It loses nothing: its dock shows it again, as every manifest without a receipt.

    Args:
        claim: Manifests before it are missing.
        head_sequence: The number of the last manifest of its dock's chain.
        waiting_bytes: How many bytes of that dock's manifests wait already.
    """
    ahead = claim.manifest.sequence - head_sequence
    if ahead > MAX_AHEAD:
        problem = f"it is {ahead} ahead of the chain, at most {MAX_AHEAD}"
    elif waiting_bytes + len(claim.envelope) > MAX_WAITING_BYTES:
        problem = f"{waiting_bytes} bytes wait already, at most {MAX_WAITING_BYTES}"
    else:
        return None
    return Refused(
        code=FindingCode.MESSAGE_TOO_LARGE,
        detail=f"not kept: {problem}; try again when manifest {head_sequence + 1} was admitted",
        dock=claim.dock,
        claim=claim,
    )
