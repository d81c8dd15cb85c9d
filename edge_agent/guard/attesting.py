"""From the guard's word to what the dock signs."""

from collections.abc import Sequence
from datetime import datetime

from edge_agent.guard.messages import ToldDoor, Word
from protocol.attestation import (
    MAX_LISTED,
    MAX_SOCKETS,
    Attestation,
    Broken,
    Occasion,
    SeenUsb,
)
from protocol.chain import ChainHead
from protocol.identifiers import BayNumber, DockId
from protocol.manifest import Isolation


def attest(
    head: ChainHead,
    word: Word | None,
    *,
    dock: DockId,
    agent: str,
    occasion: Occasion,
    sockets: Sequence[str],
    now: datetime,
) -> Attestation:
    """Return what follows on *head*.

    Args:
        head: The last attestation of this dock.
        word: The guard's; without one nothing is known, and that is what is said.
        dock: This one.
        agent: Name and version of this program.
        occasion: Why it is made.
        sockets: On any address but loopback.
        now: Aware.
    """
    shown = tuple(sockets[:MAX_SOCKETS])
    said = (
        Word(isolation=Isolation.NOT_ENFORCED, since=now, enforced=False) if word is None else word
    )
    return Attestation(
        dock=dock,
        sequence=head.sequence + 1,
        previous_sha256=head.payload_sha256,
        made_at=now,
        occasion=occasion,
        isolation=said.isolation,
        since=said.since,
        enforced=said.enforced,
        agent=agent,
        table_sha256=said.table_sha256,
        network=said.network,
        usb=() if said.door is None else _usb(said.door),
        refused_usb=0 if said.door is None else said.door.refusals,
        sockets=shown,
        unlisted_sockets=len(sockets) - len(shown),
        broken=tuple(
            Broken(code=one.code, subject=one.subject, text=one.text)
            for one in said.incident[:MAX_LISTED]
        ),
        broken_since=said.began_at,
    )


def _usb(door: ToldDoor) -> tuple[SeenUsb, ...]:
    told = [(one, 0) for one in door.present[:MAX_LISTED]]
    told += [(one.device, one.times) for one in door.refused[:MAX_LISTED]]
    return tuple(
        SeenUsb(
            port=one.port,
            ids=one.ids,
            let_in=one.let_in,
            because=one.because,
            bay=None if one.bay is None else BayNumber(one.bay),
            times=times,
        )
        for one, times in told
    )
