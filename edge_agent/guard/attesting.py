"""From the guard's word to what the dock signs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from edge_agent.guard.messages import ToldDoor, ToldSpell, Word
from protocol.attestation import (
    MAX_LISTED,
    MAX_SOCKETS,
    Attestation,
    Broken,
    Counted,
    Occasion,
    SeenUsb,
)
from protocol.chain import ChainHead
from protocol.identifiers import BayNumber, DockId
from protocol.manifest import Isolation

NOTHING_YET: Final = Counted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many attestations of changes there may be, so that no disk fills up with them.

    Attributes:
        most: At once.
        each_s: After which there may be one more.
        due_s: When as many as there were would have been made one by one, on a clock that is
            never set.
    """

    most: int = 60
    each_s: float = 60.0
    due_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return after how long there may be another one."""
        return max(0.0, self.due_s - now_s - (self.most - 1) * self.each_s)

    def spent(self, now_s: float) -> "Budget":
        """Return what is left after one more."""
        return replace(self, due_s=max(self.due_s, now_s) + self.each_s)


def attest(
    head: ChainHead,
    word: Word | None,
    *,
    dock: DockId,
    agent: str,
    occasion: Occasion,
    sockets: Sequence[str],
    now: datetime,
    before: Counted = NOTHING_YET,
    left_out: int = 0,
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
        before: How far the guard had counted in the last attestation.
        left_out: Changes since then that are told by none.
    """
    counted = before if word is None else word.counted
    since = before if counted.run == before.run else Counted(run=counted.run)
    shown = tuple(sockets[:MAX_SOCKETS])
    said = (
        Word(isolation=Isolation.NOT_ENFORCED, since=now, enforced=False) if word is None else word
    )
    spells = [one for one in said.spells if one.changed > since.changes]
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
        usb=() if said.door is None else _usb(said.door, since.usb),
        refused_usb=counted.usb - since.usb,
        refused_packets=counted.packets - since.packets,
        sockets=shown,
        unlisted_sockets=len(sockets) - len(shown),
        broken=tuple(map(_broken, spells)),
        unlisted_broken=max(
            0,
            counted.breaches - since.breaches - sum(one.number > since.breaches for one in spells),
        ),
        left_out=left_out,
        counted=counted,
    )


def _broken(spell: ToldSpell) -> Broken:
    return Broken(
        code=spell.breach.code,
        subject=spell.breach.subject,
        text=spell.breach.text,
        began_at=spell.began_at,
        ended_at=spell.ended_at,
    )


def _usb(door: ToldDoor, told: int) -> tuple[SeenUsb, ...]:
    shown = [(one, 0) for one in door.present[:MAX_LISTED]]
    shown += [(one.device, one.times) for one in door.refused[:MAX_LISTED] if one.number > told]
    return tuple(
        SeenUsb(
            port=one.port,
            ids=one.ids,
            let_in=one.let_in,
            because=one.because,
            bay=None if one.bay is None else BayNumber(one.bay),
            times=times,
        )
        for one, times in shown
    )
