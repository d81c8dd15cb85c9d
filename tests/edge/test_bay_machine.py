import pytest

from edge_agent.bay.machine import TRANSITIONS, BayEvent, advance
from edge_agent.errors import IllegalTransitionError
from protocol.messages import BayState


@pytest.mark.parametrize("state", BayState)
@pytest.mark.parametrize("event", BayEvent)
def test_only_listed_transitions(state: BayState, event: BayEvent) -> None:
    """Every pair of state and event either has a row or is refused."""
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError):
            advance(state, event)


def test_release_needs_a_receipt() -> None:
    """Only a verified receipt makes a recorder releasable, and only once its manifest is sealed."""
    causes = {row for row, after in TRANSITIONS.items() if after is BayState.RELEASABLE}

    assert causes == {
        (BayState.SEALED, BayEvent.RECEIPT_VERIFIED),
        (BayState.ERASING, BayEvent.ERASING_ENDED),
    }


def test_only_what_may_be_taken_is_erased() -> None:
    """There is no way to it past the receipt."""
    causes = {row for row, after in TRANSITIONS.items() if after is BayState.ERASING}

    assert causes == {(BayState.RELEASABLE, BayEvent.ERASING_BEGAN)}


def test_a_recorder_may_leave_at_any_time() -> None:
    """Whatever the dock is doing, a pulled recorder leaves an empty bay."""
    occupied = set(BayState) - {BayState.EMPTY}

    assert all(advance(state, BayEvent.LEFT) is BayState.EMPTY for state in occupied)


@pytest.mark.parametrize("state", [BayState.ATTENTION, BayState.QUARANTINED])
def test_a_person_may_have_it_tried_again(state: BayState) -> None:
    """What was refused or failed is tried from the beginning, without pulling the recorder."""
    assert advance(state, BayEvent.RETRY) is BayState.IDENTIFYING
