import pytest

from edge_agent.errors import IllegalTransitionError
from edge_agent.outbox.machine import TRANSITIONS, ManifestEvent, ManifestState, advance


@pytest.mark.parametrize("state", ManifestState)
@pytest.mark.parametrize("event", ManifestEvent)
def test_only_listed_transitions(state: ManifestState, event: ManifestEvent) -> None:
    """Every pair of state and event either has a row or is refused."""
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError):
            advance(state, event)


def test_a_receipt_needs_to_be_verified() -> None:
    """Nothing but a verified receipt brings a manifest to its end."""
    causes = {
        event
        for (state, event), after in TRANSITIONS.items()
        if after is ManifestState.RECEIPTED and state is not ManifestState.RECEIPTED
    }

    assert causes == {ManifestEvent.RECEIPT_VERIFIED}


def test_a_receipt_is_final() -> None:
    """Once its receipt was verified, nothing changes a manifest's state."""
    after = {after for (state, _), after in TRANSITIONS.items() if state is ManifestState.RECEIPTED}

    assert after == {ManifestState.RECEIPTED}


def test_a_refused_manifest_may_be_admitted() -> None:
    """When the registry was corrected, what was refused goes on like any other."""
    assert advance(ManifestState.REFUSED, ManifestEvent.ADMITTED) is ManifestState.ADMITTED
