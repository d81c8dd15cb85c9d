"""Statements about manifests that wait for those before them."""

from typing import Any

from sqlalchemy import Select, func, select

from protocol.identifiers import DockId
from server_agent.catalogue.tables import docks, manifests
from server_agent.intake.states import ManifestState


def waiting_sizes(dock: DockId) -> Select[Any]:
    """What waits of a dock, in its order, with the number that its chain ends with."""
    head = select(docks.c.head_sequence).where(docks.c.dock == dock).scalar_subquery()
    return (
        select(
            manifests.c.sequence,
            func.length(manifests.c.envelope).label("size_bytes"),
            head.label("head_sequence"),
        )
        .where(
            manifests.c.dock == dock,
            manifests.c.state == ManifestState.WAITING.value,
            manifests.c.sequence > func.coalesce(head, 0),  # the chain so far is not looked through
        )
        .order_by(manifests.c.sequence)
    )


def waiting_between(dock: DockId, first: int, last: int) -> Select[Any]:
    """The envelopes of what waits from one number to another, in order."""
    return (
        select(manifests.c.envelope)
        .where(
            manifests.c.dock == dock,
            manifests.c.state == ManifestState.WAITING.value,
            manifests.c.sequence.between(first, last),
        )
        .order_by(manifests.c.sequence)
    )
