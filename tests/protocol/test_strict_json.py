from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import (
    DuplicateKeyError,
    MalformedError,
    ProtocolError,
    SchemaError,
    TooLargeError,
)
from protocol.identifiers import DockId
from protocol.messages import BayMessage, DockStatus
from protocol.strict_json import Message, encode, parse

NOW = datetime(2026, 11, 23, tzinfo=UTC)
GOOD = encode(DockStatus(dock=DockId("dock-01"), online=True, since=NOW, agent="x"))


class Anything(Message, frozen=True, kw_only=True):
    value: object = None


def read(untrusted: bytes) -> DockStatus:
    return parse(untrusted, DockStatus, max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("untrusted", "error"),
    [
        (GOOD.replace(b'"online":true', b'"online":true,"online":false'), DuplicateKeyError),
        (GOOD.replace(b'"online":true', b'"online":1'), SchemaError),
        (GOOD.replace(b'"online":true', b'"online":true,"more":1'), SchemaError),
        (GOOD.replace(b'"online":true,', b""), SchemaError),
        (GOOD.replace(b"dock-01", b"dock/01"), SchemaError),
        (GOOD.replace(b"dock-01", b"dock-01\\n"), SchemaError),
        (GOOD.replace(b"00Z", b"00"), SchemaError),
        (GOOD + b"x", MalformedError),
        (GOOD[:-1], MalformedError),
        (b"", MalformedError),
        (b"\xff", MalformedError),
        (b"null", SchemaError),
    ],
)
def test_wrong_bytes_are_refused(untrusted: bytes, error: type[ProtocolError]) -> None:
    """Each deviation from the schema has its own error."""
    with pytest.raises(error):
        read(untrusted)


def test_error_names_the_place() -> None:
    """The message says where the wrong field stands."""
    with pytest.raises(SchemaError, match=r"\$\.online"):
        read(GOOD.replace(b"true", b'"true"'))


@pytest.mark.parametrize("number", [b"1.0", b"1e3", b"NaN", b"-Infinity"])
def test_floats_are_refused_wherever_they_stand(number: bytes) -> None:
    """Even where any value may stand, a number with a fraction or exponent may not."""
    with pytest.raises(ProtocolError):
        parse(b'{"value":[' + number + b"]}", Anything, max_bytes=100)


def test_duplicate_keys_are_refused_at_any_depth() -> None:
    """A duplicate inside a nested object is found."""
    with pytest.raises(DuplicateKeyError):
        parse(b'{"value":[{"a":1,"a":1}]}', Anything, max_bytes=100)


def test_size_is_judged_first() -> None:
    """A message over its limit is refused before its form matters."""
    with pytest.raises(TooLargeError):
        parse(b"{" * 101, Anything, max_bytes=100)


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    """A million brackets where any value may stand are malformed."""
    with pytest.raises(MalformedError):
        parse(b'{"value":' + b"[" * 1_000_000, Anything, max_bytes=10_000_000)


@given(untrusted=st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(untrusted: bytes) -> None:
    """Arbitrary bytes raise a ProtocolError and never anything else."""
    with pytest.raises(ProtocolError):
        parse(untrusted, BayMessage, max_bytes=100_000)


def test_same_value_gives_same_bytes() -> None:
    """Encoding what was read gives the same bytes."""
    assert encode(read(GOOD)) == GOOD
