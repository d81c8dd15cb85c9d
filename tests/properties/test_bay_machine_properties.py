from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bay.machine import TRANSITIONS, BayEvent, advance
from edge_agent.errors import IllegalTransitionError
from protocol.messages import BayState


def after(events: list[BayEvent]) -> list[BayState]:
    """Return the states that a bay goes through; what its table refuses changes nothing."""
    states = [BayState.EMPTY]
    for event in events:
        try:
            states.append(advance(states[-1], event))
        except IllegalTransitionError:
            continue
    return states


@given(st.lists(st.sampled_from(BayEvent)))
def test_releasable_means_read_sealed_and_receipted(events: list[BayEvent]) -> None:
    """Before a recorder is releasable it was identified, read and sealed, in this stay."""
    states = after(events)

    for position, state in enumerate(states):
        if state is BayState.RELEASABLE:
            stay = states[:position]
            while BayState.EMPTY in stay:
                stay = stay[stay.index(BayState.EMPTY) + 1 :]
            assert stay[-3:] == [BayState.IDENTIFYING, BayState.INGESTING, BayState.SEALED]


@given(st.lists(st.sampled_from(BayEvent)))
def test_an_empty_bay_can_always_be_had(events: list[BayEvent]) -> None:
    """From wherever a bay is, leaving empties it: no state is a trap."""
    state = after(events)[-1]

    assert state is BayState.EMPTY or advance(state, BayEvent.LEFT) is BayState.EMPTY


def test_every_state_can_be_reached() -> None:
    """No state stands in the table for nothing."""
    reached = {BayState.EMPTY}
    for _ in BayState:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}

    assert reached == set(BayState)
