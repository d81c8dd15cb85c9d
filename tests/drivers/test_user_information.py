"""User information in both layouts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.user_information import (
    Layout,
    parse_user_information,
    write_user_information,
)
from edge_agent.errors import MalformedAnswerError


def test_layouts_have_their_sizes() -> None:
    """89 bytes padded, 94 with a NUL behind each field."""
    assert {layout: layout.size_bytes for layout in Layout} == {
        Layout.PADDED: 89,
        Layout.TERMINATED: 94,
    }


@given(layout=st.sampled_from(Layout), data=st.data())
def test_any_bytes_of_the_right_size_are_kept(layout: Layout, data: st.DataObject) -> None:
    """Whatever the fields hold, they are cut where they belong and lose nothing."""
    size = layout.size_bytes
    raw = data.draw(st.binary(min_size=size, max_size=size))

    told = parse_user_information(raw)

    assert told.raw == raw
    assert (
        tuple(
            len(field.raw)
            for field in (
                told.serial,
                told.user_number,
                told.user_name,
                told.unit_number,
                told.unit_name,
            )
        )
        == layout.value
    )


@given(raw=st.binary(max_size=1024).filter(lambda raw: len(raw) not in {89, 94}))
def test_another_size_is_refused(raw: bytes) -> None:
    """Nothing but 89 and 94 bytes is user information."""
    with pytest.raises(MalformedAnswerError):
        parse_user_information(raw)


def test_a_name_of_half_a_character_is_told() -> None:
    """A name that was cut to 32 bytes within a character is shown, and not printable."""
    name = b"x" + ("伟" * 16).encode("gbk")
    fields = (b"0000017", b"012345", name[:32], b"", b"")

    told = parse_user_information(write_user_information(Layout.PADDED, fields))

    assert told.user_name.text == "x" + "伟" * 15 + r"\xce"
    assert not told.user_name.is_printable
    assert told.user_number.is_printable


@pytest.mark.parametrize(("layout", "room"), [(Layout.PADDED, 7), (Layout.TERMINATED, 7)])
def test_a_field_that_does_not_fit_is_not_written(layout: Layout, room: int) -> None:
    """A terminated field keeps room for its NUL."""
    write_user_information(layout, (b"1" * room, b"", b"", b"", b""))
    with pytest.raises(ValueError, match="longer"):
        write_user_information(layout, (b"1" * (room + 1), b"", b"", b"", b""))
