import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mounting.messages import Request, Verb, encode, parse_reply, parse_request
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber


def test_a_request_is_a_verb_and_a_bay() -> None:
    """What is sent is what arrives."""
    request = Request(verb=Verb.MOUNT, bay=BayNumber(3))

    assert encode(request) == b'{"verb":"mount","bay":3}'
    assert parse_request(encode(request)) == request


@pytest.mark.parametrize(
    "untrusted",
    [
        b"",
        b"{}",
        b'{"verb":"mount","bay":0}',
        b'{"verb":"mount","bay":100}',
        b'{"verb":"mount","bay":"3"}',
        b'{"verb":"mount","bay":3.0}',
        b'{"verb":"erase","bay":3}',
        b'{"verb":"mount","bay":3,"path":"/etc"}',
        b'{"verb":"mount","bay":3,"bay":4}',
        b'{"verb":"mount","bay":3}' + b" " * 300,
    ],
)
def test_anything_else_is_refused(untrusted: bytes) -> None:
    """No path, no device, no other verb, no other bay."""
    with pytest.raises(ProtocolError):
        parse_request(untrusted)


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(untrusted: bytes) -> None:
    """Whatever comes, it is a message or a ProtocolError."""
    for parse in (parse_request, parse_reply):
        try:
            parse(untrusted)
        except ProtocolError:
            continue
