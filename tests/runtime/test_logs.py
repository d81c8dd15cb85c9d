import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime import logs


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    """Logging is the whole process's: each test gives it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    out, err = capsys.readouterr()
    assert not out
    return [json.loads(line) for line in err.splitlines()]


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged is found again by key, in any language."""
    logs.configure(json=True, level="info")
    structlog.get_logger("edge").warning("docked", bay=3, officer="王")
    [line] = lines(capsys)

    assert line.pop("timestamp")
    assert line == {
        "event": "docked",
        "level": "warning",
        "logger": "edge",
        "bay": 3,
        "officer": "王",
    }


def test_libraries_log_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library says by logging comes out like our own lines."""
    logs.configure(json=True, level="info")
    logging.getLogger("mqtt").error("lost %s", "it", extra={"bay": 3})
    [line] = lines(capsys)

    assert (line["event"], line["level"], line["bay"]) == ("lost it", "error", 3)


def test_arguments_are_put_into_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Our own lines can be written the old way too."""
    logs.configure(json=True, level="info")
    structlog.get_logger("edge").info("%d bays", 7)

    assert [line["event"] for line in lines(capsys)] == ["7 bays"]


def test_lower_levels_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the level nothing is written, whoever says it."""
    logs.configure(json=True, level="warning")
    structlog.get_logger("edge").info("quiet")
    logging.getLogger("mqtt").info("quiet")
    structlog.get_logger("edge").error("loud")

    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_an_error_keeps_its_traceback_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback does not tear a line apart."""
    logs.configure(json=True, level="info")
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        structlog.get_logger("edge").exception("failed")
        logging.getLogger("mqtt").exception("failed")
    ours, theirs = lines(capsys)

    assert "ZeroDivisionError" in str(ours["exception"])
    assert "ZeroDivisionError" in str(theirs["exception"])


def test_untrusted_text_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A name with a line break, or one that is no text, cannot forge a line."""
    logs.configure(json=True, level="info")
    structlog.get_logger("edge").info("found", name="a\n{}\udcff\x1b[2J")
    [line] = lines(capsys)

    assert line["name"] == "a\n{}\udcff\x1b[2J"


def test_a_person_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there are no colours; the facts are there."""
    logs.configure(json=False, level="info")
    structlog.get_logger("edge").info("docked", bay=3)
    _, err = capsys.readouterr()

    assert "docked" in err
    assert "bay=3" in err
    assert "\x1b" not in err


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """A second call does not double the lines."""
    logs.configure(json=False, level="info")
    logs.configure(json=True, level="info")
    structlog.get_logger("edge").info("once")

    assert len(lines(capsys)) == 1


def test_an_unknown_level_is_refused() -> None:
    """A level that does not exist is not taken for another one."""
    with pytest.raises(ValueError, match="chatty"):
        logs.configure(json=True, level="chatty")
