"""The order in which contenders run."""

from bench.cases import in_turn
from bench.contenders import ours


def test_nobody_is_always_first() -> None:
    """Every round has all contenders once, and begins with another one."""
    contenders = [ours(level) for level in ("L1", "L2", "L3")]

    rounds = [in_turn(contenders, number, 3) for number in range(3)]

    assert [one[0].name for one in rounds] == ["Bayward L1", "Bayward L2", "Bayward L3"]
    assert all({one.name for one in order} == {one.name for one in contenders} for order in rounds)
