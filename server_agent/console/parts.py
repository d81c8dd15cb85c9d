"""Which parts of the live page changed between two walls."""

from dataclasses import dataclass

from server_agent.console.views import Alerts, Card, Notices, RackHead, Strip, Wall


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What to send: the whole wall, or the parts that differ; None and () are unchanged."""

    whole: Wall | None = None
    strip: Strip | None = None
    notices: Notices | None = None
    alerts: Alerts | None = None
    heads: tuple[RackHead, ...] = ()
    cards: tuple[Card, ...] = ()


NOTHING = Parts()


def changed_parts(before: Wall | None, after: Wall) -> Parts:
    """Return what a page that shows *before* needs to show *after*; None shows nothing yet."""
    if before is None or before.plan != after.plan:
        return Parts(whole=after)
    pairs = list(zip(before.racks, after.racks, strict=True))
    return Parts(
        strip=None if before.strip == after.strip else after.strip,
        notices=None if before.notices == after.notices else after.notices,
        alerts=None if before.alerts == after.alerts else after.alerts,
        heads=tuple(new.head for old, new in pairs if old.head != new.head),
        cards=tuple(
            new_card
            for old, new in pairs
            for old_card, new_card in zip(old.cards, new.cards, strict=True)
            if old_card != new_card
        ),
    )
