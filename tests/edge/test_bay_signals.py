"""What a light says: a recorder may be taken when it says so, and at no other time."""

from datetime import UTC, datetime

import pytest

from edge_agent.lights.signals import (
    GREEN_ALONE,
    GREEN_AND_RED,
    Shine,
    Signal,
    at_rest,
    is_lit,
    signal_of,
)
from protocol.identifiers import BayNumber, DockId
from protocol.messages import BayMessage, BayState

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SAYS = {
    BayState.EMPTY: Signal.EMPTY,
    BayState.IDENTIFYING: Signal.READING,
    BayState.INGESTING: Signal.READING,
    BayState.SEALED: Signal.DO_NOT_TAKE,
    BayState.ERASING: Signal.DO_NOT_TAKE,
    BayState.RELEASABLE: Signal.SAFE_TO_TAKE,
    BayState.QUARANTINED: Signal.ATTENTION,
    BayState.ATTENTION: Signal.ATTENTION,
}


def _bay(state: BayState, problem: str | None = None) -> BayMessage:
    return BayMessage(
        dock=DockId("dock-01"), bay=BayNumber(1), state=state, changed_at=NOW, problem=problem
    )


@pytest.mark.parametrize("state", BayState)
def test_what_each_state_says(state: BayState) -> None:
    """A state that is new has to be given a light first."""
    assert signal_of(_bay(state)) is SAYS[state]


@pytest.mark.parametrize("state", BayState)
def test_safe_is_said_of_one_state_alone(state: BayState) -> None:
    """With or without a problem, nothing but a verified receipt makes a recorder safe to take."""
    for problem in (None, "E-STG-301"):
        is_safe = signal_of(_bay(state, problem)) is Signal.SAFE_TO_TAKE
        assert is_safe == (state is BayState.RELEASABLE)


@pytest.mark.parametrize("state", [BayState.EMPTY, BayState.IDENTIFYING, BayState.INGESTING])
def test_a_bay_that_is_held_up_asks_for_a_person(state: BayState) -> None:
    """One whose disk is full takes nothing, however empty it is."""
    assert signal_of(_bay(state, "E-STG-301")) is Signal.ATTENTION


@pytest.mark.parametrize("signal", Signal)
def test_only_safe_burns_steadily_in_green(signal: Signal) -> None:
    """With one lamp or two, whoever sees a steady green may take it."""
    green, red = GREEN_AND_RED[signal]

    assert ((green, red) == (Shine.ON, Shine.OFF)) == (signal is Signal.SAFE_TO_TAKE)
    assert (GREEN_ALONE[signal] is Shine.ON) == (signal is Signal.SAFE_TO_TAKE)


@pytest.mark.parametrize("signal", Signal)
def test_a_light_that_nobody_looks_after_says_nothing_is_safe(signal: Signal) -> None:
    """What is empty stays dark."""
    expected = Signal.EMPTY if signal is Signal.EMPTY else Signal.DO_NOT_TAKE

    assert at_rest(signal) is expected


def test_how_lamps_blink() -> None:
    """Slowly: a second on, a second off; quickly: a quarter each."""
    shown = {
        shine: "".join("x" if is_lit(shine, quarter) else "." for quarter in range(8))
        for shine in Shine
    }

    assert shown == {
        Shine.OFF: "........",
        Shine.ON: "xxxxxxxx",
        Shine.FAST: "x.x.x.x.",
        Shine.SLOW: "xxxx....",
    }
