import re
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import topics
from protocol.errors import (
    IdentifierError,
    ProtocolError,
    TopicError,
    UnknownTypeError,
    UnknownVersionError,
)
from protocol.identifiers import (
    DOCK_PATTERN,
    OFFICER_PATTERN,
    RECORDER_PATTERN,
    RESERVED_DOCKS,
    BayNumber,
    DockId,
    mint_uuid7,
    parse_bay,
    parse_dock,
    parse_manifest_id,
    parse_officer,
    parse_recorder,
    parse_recording_id,
)
from protocol.topics import Channel, DockTopic, of_bay, of_dock, parse_dock_topic
from protocol.versions import Statement, parse_payload_type, payload_type

DOCKS = st.from_regex(DOCK_PATTERN, fullmatch=True).filter(lambda one: one not in RESERVED_DOCKS)
PARSERS: list[Callable[[str], object]] = [
    parse_dock,
    parse_recorder,
    parse_officer,
    parse_manifest_id,
    parse_recording_id,
    parse_bay,
]


@given(unix_ms=st.integers(0, 2**48 - 1), entropy=st.binary(min_size=10, max_size=10))
def test_uuid7_has_time_version_and_variant(unix_ms: int, entropy: bytes) -> None:
    """A minted id is a UUID of version 7 whose first 48 bits are the time."""
    text = mint_uuid7(unix_ms=unix_ms, entropy=entropy)
    read = uuid.UUID(text)

    assert (read.version, read.variant, read.int >> 80) == (7, uuid.RFC_4122, unix_ms)
    assert parse_manifest_id(text) == text


@given(first=st.integers(0, 2**48 - 1), second=st.integers(0, 2**48 - 1))
def test_uuid7_sorts_by_time(first: int, second: int) -> None:
    """Of two ids the earlier sorts first as text."""
    earlier, later = sorted((first, second))
    one = mint_uuid7(unix_ms=earlier, entropy=bytes(10))
    other = mint_uuid7(unix_ms=later, entropy=b"\xff" * 10)

    assert one < other


@pytest.mark.parametrize(("unix_ms", "length"), [(-1, 10), (2**48, 10), (0, 9), (0, 11)])
def test_uuid7_refuses_what_does_not_fit(unix_ms: int, length: int) -> None:
    """A time or an entropy out of range is our own mistake."""
    with pytest.raises(ValueError, match="mint_uuid7"):
        mint_uuid7(unix_ms=unix_ms, entropy=bytes(length))


@pytest.mark.parametrize("parse", PARSERS)
@given(untrusted=st.text(max_size=60))
def test_identifier_is_safe_everywhere_or_refused(
    parse: Callable[[str], object], untrusted: str
) -> None:
    """What a parser lets through has no separator, wildcard, dot, space or control character."""
    try:
        value = str(parse(untrusted))
    except IdentifierError:
        return

    assert re.fullmatch(r"[A-Za-z0-9-]+", value)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "hostile", ["", "../x", "a/b", "a\n", "a+", "#", "A B", "ａ", "-a", "x" * 40]
)
def test_hostile_identifiers_are_refused(parse: Callable[[str], object], hostile: str) -> None:
    """Path, topic and line separators, look-alikes and over-long names are no identifiers."""
    with pytest.raises(IdentifierError):
        parse(hostile)


@pytest.mark.parametrize("name", sorted(RESERVED_DOCKS))
def test_archive_names_are_no_docks(name: str) -> None:
    """A dock cannot be called as the archive's own programs are."""
    with pytest.raises(IdentifierError):
        parse_dock(name)


@given(
    st.from_regex(RECORDER_PATTERN, fullmatch=True), st.from_regex(OFFICER_PATTERN, fullmatch=True)
)
def test_patterns_and_parsers_agree(recorder: str, officer: str) -> None:
    """What the patterns of the messages allow, the parsers allow."""
    assert (parse_recorder(recorder), parse_officer(officer)) == (recorder, officer)


@given(dock=DOCKS, channel=st.sampled_from(Channel), bay=st.integers(1, 99))
def test_topics_come_back(dock: str, channel: Channel, bay: int) -> None:
    """A topic that we build is parsed to what it was built from."""
    if channel is Channel.BAYS:
        built = of_bay(DockId(dock), BayNumber(bay))
        expected = DockTopic(dock=DockId(dock), channel=channel, bay=BayNumber(bay))
    else:
        built = of_dock(DockId(dock), channel)
        expected = DockTopic(dock=DockId(dock), channel=channel)

    assert parse_dock_topic(built) == expected


@given(untrusted=st.text(max_size=80) | st.from_regex(r"bayward/v1/docks/.{0,20}/.{0,12}"))
def test_any_topic_parses_or_is_refused(untrusted: str) -> None:
    """Arbitrary topics raise TopicError and nothing else."""
    try:
        parsed = parse_dock_topic(untrusted)
    except TopicError:
        return

    assert untrusted.startswith(f"{topics.DOCKS}/{parsed.dock}/{parsed.channel.value}")


@pytest.mark.parametrize("statement", Statement)
def test_payload_types_come_back(statement: Statement) -> None:
    """What we write is what we read."""
    assert parse_payload_type(payload_type(statement)) == (statement, 1)


@given(untrusted=st.text(max_size=60))
def test_other_payload_types_are_refused(untrusted: str) -> None:
    """An arbitrary type raises a ProtocolError."""
    with pytest.raises(ProtocolError):
        parse_payload_type(untrusted)


def test_unknown_version_is_told_from_unknown_type() -> None:
    """A newer version of ours is another error than somebody else's type."""
    with pytest.raises(UnknownVersionError, match="this release reads 1"):
        parse_payload_type("application/vnd.bayward.manifest.v2+json")
    with pytest.raises(UnknownTypeError):
        parse_payload_type("application/vnd.bayward.invoice.v1+json")
