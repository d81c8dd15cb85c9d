"""What edge-guard tells edge-agent: one JSON object a line, at once and at each change."""

from typing import Annotated, Final

from msgspec import Meta

from edge_agent.guard.breaches import Breach
from edge_agent.guard.state import Watch
from protocol import strict_json
from protocol.manifest import Isolation, UtcTime
from protocol.strict_json import Message

MAX_WORD_BYTES: Final = 64 * 1024
_MOST_TOLD: Final = 50
_MOST_CHARACTERS: Final = 300

_Text = Annotated[str, Meta(max_length=_MOST_CHARACTERS)]
_Code = Annotated[str, Meta(pattern=r"^E-ISO-[0-9]{3}$")]


class ToldBreach(Message, frozen=True, kw_only=True):
    """One breach; the same one has the same code and subject."""

    code: _Code
    subject: _Text
    text: _Text


class Word(Message, frozen=True, kw_only=True):
    """How it stands.

    Attributes:
        enforced: False in a dry run, where nothing is shut and nothing refused.
        table_sha256: Of the rules in the kernel; None if they are not ours.
    """

    isolation: Isolation
    since: UtcTime
    enforced: bool
    open: Annotated[tuple[ToldBreach, ...], Meta(max_length=_MOST_TOLD)] = ()
    incident: Annotated[tuple[ToldBreach, ...], Meta(max_length=_MOST_TOLD)] = ()
    began_at: UtcTime | None = None
    table_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None


def word_of(watch: Watch, *, enforced: bool, table_sha256: str | None) -> Word:
    """Return what is told."""
    return Word(
        isolation=watch.isolation if enforced else Isolation.NOT_ENFORCED,
        since=watch.since,
        enforced=enforced,
        open=tuple(map(_told, watch.open_[:_MOST_TOLD])),
        incident=tuple(map(_told, watch.incident[:_MOST_TOLD])),
        began_at=watch.began_at,
        table_sha256=table_sha256,
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
