"""Text in GBK, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.device_text import MAX_TEXT_BYTES, DeviceText

WANG = "王伟".encode("gbk")


@pytest.mark.parametrize(
    ("raw", "text", "is_printable"),
    [
        (b"", "", True),
        (WANG, "王伟", True),
        (WANG + bytes(28), "王伟", True),
        (WANG + b"   ", "王伟", True),
        (WANG + b"\0garbage", "王伟", True),
        (WANG[:3], r"王\xce", False),
        (WANG[:3] + b"\0" * 29, r"王\xce", False),
        (b"\xff\xfe", r"\xff\xfe", False),
        ("王".encode(), "鐜\\x8b", False),
        (b"a\x1bb", "a\x1bb", False),
        (b"a\x80b", "a\\x80b", False),
        (b"\xa1\xa1x", "\u3000x", False),
        (b"\0" * 32, "", True),
    ],
)
def test_text_is_read(raw: bytes, text: str, is_printable: bool) -> None:  # noqa: FBT001 - a table's column
    """Padding ends a text, a byte that is no GBK is shown, and no control character passes."""
    told = DeviceText.decode(raw)

    assert (told.text, told.is_printable) == (text, is_printable)


@given(raw=st.binary(max_size=MAX_TEXT_BYTES))
def test_no_byte_is_lost(raw: bytes) -> None:
    """Whatever a field holds is kept beside what it says."""
    told = DeviceText.decode(raw)

    assert told.raw == raw
    assert told.is_printable <= told.text.isprintable()
    if told.is_printable:
        assert told.text.encode("gbk") == raw.partition(b"\0")[0].rstrip(b" ")


@given(text=st.text(max_size=40))
def test_gbk_comes_back(text: str) -> None:
    """What GBK can say is read as it was said."""
    raw = text.encode("gbk", errors="ignore")
    said = raw.decode("gbk").partition("\0")[0].rstrip(" ")

    assert DeviceText.decode(raw).text == said


@pytest.mark.parametrize(
    ("raw", "is_blank"), [(b"", True), (b"\0 \0", True), (b"\0x", False), (b"x", False)]
)
def test_blank_is_nothing_at_all(raw: bytes, is_blank: bool) -> None:  # noqa: FBT001 - a table's column
    """A field with something behind its NUL is not blank: settings could hide there."""
    assert DeviceText.decode(raw).is_blank is is_blank


def test_a_field_has_a_bound() -> None:
    """More than 255 bytes is a caller's mistake."""
    with pytest.raises(ValueError, match="256"):
        DeviceText.decode(bytes(256))
