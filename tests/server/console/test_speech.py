from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_agent.console.speech import Language, Speech, shown, size

SPEECH = {language: Speech(language, ZoneInfo("Asia/Shanghai")) for language in Language}


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (123_456, "123 kB"),
        (24_000_000_000, "24.0 GB"),
        ((1 << 63) - 1, "9223 PB"),
    ],
)
def test_sizes_have_three_digits(size_bytes: int, text: str) -> None:
    """Decimal units, three digits where there are three."""
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "chinese", "english"),
    [
        (0, "0 秒", "0 s"),
        (59, "59 秒", "59 s"),
        (80, "1 分 20 秒", "1 min 20 s"),
        (3_600, "1 小时 0 分", "1 h 0 min"),
        (10**18, "超过 99 小时", "more than 99 h"),
    ],
)
def test_durations_have_two_units(seconds: int, chinese: str, english: str) -> None:
    """A length of time is said in the reader's language."""
    assert SPEECH[Language.CHINESE].duration(seconds) == chinese
    assert SPEECH[Language.ENGLISH].duration(seconds) == english


def test_times_are_the_sites() -> None:
    """A moment is shown as the site's clocks show it."""
    at = datetime(2026, 11, 23, 17, 29, 5, tzinfo=UTC)

    assert SPEECH[Language.CHINESE].moment(at) == "2026-11-24 01:29:05"
    assert SPEECH[Language.ENGLISH].clock(at) == "01:29:05"


@given(st.text(max_size=300))
def test_shown_text_can_be_seen(untrusted: str) -> None:
    """No character of a device's text is invisible or turns the writing's direction."""
    visible = shown(untrusted, limit=200)

    assert visible.isprintable()
    assert len(visible) <= 201


def test_shown_text_keeps_what_is_plain() -> None:
    """Ordinary text of any script is shown as it is."""
    assert shown("张伟 R-0001 été") == "张伟 R-0001 été"
    assert shown("a\u202eb\n") == "a\\u202eb\\n"
