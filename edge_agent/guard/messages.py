"""What edge-guard tells edge-agent: one JSON object a line, at once and at each change."""

from collections.abc import Iterable
from typing import Annotated, Final

from msgspec import Meta

from edge_agent.guard.breaches import Breach, Facts, Route
from edge_agent.guard.spells import Spell
from edge_agent.guard.state import Watch
from edge_agent.guard.usb_register import MOST_REFUSALS, Register, Sighting
from edge_agent.mounting.port_paths import PortField
from protocol import strict_json
from protocol.attestation import MAX_LISTED, Counted, SeenInterface, SeenNetwork
from protocol.manifest import Isolation, UtcTime
from protocol.strict_json import Message

MAX_WORD_BYTES: Final = 256 * 1024
_MOST_TOLD: Final = MAX_LISTED
_MOST_CHARACTERS: Final = 300

_Text = Annotated[str, Meta(max_length=_MOST_CHARACTERS)]
_Code = Annotated[str, Meta(pattern=r"^E-ISO-[0-9]{3}$")]


class ToldBreach(Message, frozen=True, kw_only=True):
    """One breach; the same one has the same code and subject."""

    code: _Code
    subject: _Text
    text: _Text


class ToldSpell(Message, frozen=True, kw_only=True):
    """One breach from its begin to its end: see `Spell`."""

    number: Annotated[int, Meta(ge=1)]
    changed: Annotated[int, Meta(ge=1)]
    breach: ToldBreach
    began_at: UtcTime
    ended_at: UtcTime | None = None


class ToldUsb(Message, frozen=True, kw_only=True):
    """A USB device: see `Sighting`."""

    port: PortField
    ids: Annotated[str, Meta(pattern=r"^([0-9a-f]{4}:[0-9a-f]{4})?$")]
    name: _Text
    let_in: bool
    because: _Text
    bay: int | None = None


class ToldRefusal(Message, frozen=True, kw_only=True):
    """A USB device that was refused, so many times: see `Refusal`."""

    device: ToldUsb
    first_at: UtcTime
    last_at: UtcTime
    number: Annotated[int, Meta(ge=1)]
    times: Annotated[int, Meta(ge=1)]


class ToldOpening(Message, frozen=True, kw_only=True):
    """A USB port that lets everything in for a while, and who opened it."""

    port: PortField
    until: UtcTime
    by: _Text


class ToldDoor(Message, frozen=True, kw_only=True):
    """The USB door.

    Attributes:
        present: What is plugged in.
        refused: What was refused within the last day, each kind at each port once.
        refusals: How often anything was, since the guard began.
    """

    present: Annotated[tuple[ToldUsb, ...], Meta(max_length=_MOST_TOLD)] = ()
    refused: Annotated[tuple[ToldRefusal, ...], Meta(max_length=MOST_REFUSALS)] = ()
    refusals: Annotated[int, Meta(ge=0)] = 0
    open_ports: Annotated[tuple[ToldOpening, ...], Meta(max_length=_MOST_TOLD)] = ()


class Word(Message, frozen=True, kw_only=True):
    """How it stands.

    Attributes:
        enforced: False in a dry run, where nothing is shut and nothing refused.
        table_sha256: Of the rules in the kernel; None if they are not ours.
        door: None where none is kept.
        network: As it was at the last look; None before the first.
        refuses_frames: Whether what packet sockets send is refused, too.
        counted: How far the guard has counted.
        spells: Breaches with their begin and end, as far as they are kept; those that went
            through a change last.
    """

    isolation: Isolation
    since: UtcTime
    enforced: bool
    open: Annotated[tuple[ToldBreach, ...], Meta(max_length=_MOST_TOLD)] = ()
    incident: Annotated[tuple[ToldBreach, ...], Meta(max_length=_MOST_TOLD)] = ()
    began_at: UtcTime | None = None
    table_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    door: ToldDoor | None = None
    network: SeenNetwork | None = None
    refuses_frames: bool = True
    counted: Counted = Counted()
    spells: Annotated[tuple[ToldSpell, ...], Meta(max_length=_MOST_TOLD)] = ()


def word_of(
    watch: Watch,
    *,
    enforced: bool,
    table_sha256: str | None,
    door: ToldDoor | None = None,
    facts: Facts | None = None,
    refuses_frames: bool = True,
    run: str = "",
    packets: int = 0,
) -> Word:
    """Return what is told; *run* is this one of the guard, *packets* were refused in it."""
    spells = sorted(watch.spells.kept, key=lambda one: one.changed)[-_MOST_TOLD:]
    return Word(
        isolation=watch.isolation if enforced else Isolation.NOT_ENFORCED,
        since=watch.since,
        enforced=enforced,
        open=tuple(map(_told, watch.open_[:_MOST_TOLD])),
        incident=tuple(map(_told, watch.incident[:_MOST_TOLD])),
        began_at=watch.began_at,
        table_sha256=table_sha256,
        door=door,
        network=None if facts is None else network_of(facts),
        refuses_frames=refuses_frames,
        counted=Counted(
            run=run,
            changes=watch.spells.changes,
            breaches=watch.spells.begun,
            usb=0 if door is None else door.refusals,
            packets=packets,
        ),
        spells=tuple(map(_told_spell, spells)),
    )


def network_of(facts: Facts) -> SeenNetwork:
    """Return what is told of the network."""
    lists = (facts.interfaces, facts.routes, facts.resolvers)
    return SeenNetwork(
        interfaces=tuple(
            SeenInterface(
                name=one.name[:_MOST_CHARACTERS],
                sort=one.sort[:_MOST_CHARACTERS],
                is_up=one.is_up,
                addresses=tuple(sorted(map(str, one.addresses)))[:_MOST_TOLD],
            )
            for one in sorted(facts.interfaces, key=lambda one: one.name)[:_MOST_TOLD]
        ),
        routes=tuple(sorted(map(_route, facts.routes)))[:_MOST_TOLD],
        resolvers=tuple(
            f"{file} {address}"[:_MOST_CHARACTERS] for file, address in facts.resolvers[:_MOST_TOLD]
        ),
        unlisted=sum(max(0, len(one) - _MOST_TOLD) for one in lists),
    )


def _route(route: Route) -> str:
    text = f"{route.destination} dev {route.interface} table {route.table}"
    return text[:_MOST_CHARACTERS]


def door_of(register: Register, open_ports: Iterable[ToldOpening]) -> ToldDoor:
    """Return what is told of the USB door."""
    present = (sighting for _, sighting in register.seen[:_MOST_TOLD])
    return ToldDoor(
        present=tuple(map(_told_usb, present)),
        refused=tuple(
            ToldRefusal(
                device=_told_usb(one.sighting),
                first_at=one.first_at,
                last_at=one.last_at,
                number=one.number,
                times=one.times,
            )
            for one in register.refused
        ),
        refusals=register.refusals,
        open_ports=tuple(open_ports),
    )


def encode(word: Word) -> bytes:
    """Return a word as it is sent, with the end of its line."""
    return strict_json.encode(word) + b"\n"


def parse(untrusted: bytes) -> Word:
    """Return the word that a line is.

    Raises:
        ProtocolError: It is none.
    """
    return strict_json.parse(untrusted, Word, max_bytes=MAX_WORD_BYTES)


def _told(breach: Breach) -> ToldBreach:
    return ToldBreach(
        code=breach.kind.value,
        subject=breach.subject[:_MOST_CHARACTERS],
        text=breach.text[:_MOST_CHARACTERS],
    )


def _told_spell(spell: Spell) -> ToldSpell:
    return ToldSpell(
        number=spell.number,
        changed=spell.changed,
        breach=_told(spell.breach),
        began_at=spell.began_at,
        ended_at=spell.ended_at,
    )


def _told_usb(sighting: Sighting) -> ToldUsb:
    return ToldUsb(
        port=sighting.port,
        ids=sighting.ids,
        name=sighting.untrusted_name[:_MOST_CHARACTERS],
        let_in=sighting.let_in,
        because=sighting.because[:_MOST_CHARACTERS],
        bay=sighting.bay,
    )
