"""MQTT topics, built and parsed in one place."""

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from protocol.errors import IdentifierError, TopicError
from protocol.identifiers import BayNumber, DockId, parse_bay, parse_dock

ROOT: Final = "bayward/v1"
DOCKS: Final = f"{ROOT}/docks"
REGISTRY: Final = f"{ROOT}/site/registry"


@unique
class Channel(Enum):
    """What a dock's topic carries; the value is the topic's word."""

    STATUS = "status"
    BAYS = "bays"
    METRICS = "metrics"
    ALERTS = "alerts"
    MANIFESTS = "manifests"
    RECEIPTS = "receipts"
    DOCTOR = "doctor"
    COMMANDS = "commands"
    ANSWERS = "answers"
    COSIGNATURES = "cosignatures"
    ATTESTATIONS = "attestations"
    ATTESTED = "attested"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockTopic:
    """A topic of one dock; ``bay`` is there for Channel.BAYS only."""

    dock: DockId
    channel: Channel
    bay: BayNumber | None = None


def of_dock(dock: DockId, channel: Channel) -> str:
    """Return the topic of a dock's *channel* (not BAYS)."""
    return f"{DOCKS}/{dock}/{channel.value}"


def of_bay(dock: DockId, bay: BayNumber) -> str:
    """Return the retained topic of one bay."""
    return f"{DOCKS}/{dock}/{Channel.BAYS.value}/{bay}"


def of_all_docks(channel: Channel) -> str:
    """Return the filter that matches *channel* of every dock."""
    return f"{DOCKS}/+/{channel.value}" + ("/+" if channel is Channel.BAYS else "")


def parse_dock_topic(untrusted: str) -> DockTopic:
    """Return what a topic below ``docks/`` names.

    Raises:
        TopicError: It is none of ours, or names no dock or bay that could exist.
    """
    words = untrusted.removeprefix(f"{DOCKS}/").split("/")
    channels = {channel.value: channel for channel in Channel}
    if not untrusted.startswith(f"{DOCKS}/") or len(words) < 2 or words[1] not in channels:  # noqa: PLR2004 (dock, channel)
        raise TopicError(f"topic {untrusted[:200]!r}")
    channel = channels[words[1]]
    if len(words) != (3 if channel is Channel.BAYS else 2):
        raise TopicError(f"topic {untrusted[:200]!r}")
    try:
        bay = parse_bay(words[2]) if channel is Channel.BAYS else None
        return DockTopic(dock=parse_dock(words[0]), channel=channel, bay=bay)
    except IdentifierError as error:
        raise TopicError(str(error)) from None
