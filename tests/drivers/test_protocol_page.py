"""docs/recorder-protocol.md says what the code does."""

import re
from typing import Final

from edge_agent.drivers.dialog import Step
from edge_agent.drivers.line_frames import MAX_PAYLOAD_BYTES, MAX_STUFFED_BYTES
from edge_agent.drivers.line_messages import CHALLENGE_BYTES, LOG_CHUNK_BYTES, LineVerb, Result
from edge_agent.drivers.socket_frames import MAX_BODY_BYTES, SocketVerb
from edge_agent.drivers.user_information import Layout
from tests.architecture.source_tree import ROOT
from tests.drivers.vectors import LINES

PAGE: Final = (ROOT / "docs/recorder-protocol.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """The text below one heading."""
    return PAGE.split(f"\n## {name}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]


def numbered(text: str) -> dict[int, str]:
    """The rows of a table that begin with a number."""
    return {
        int(number): name
        for number, name in re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    }


def test_results_are_all_on_the_page() -> None:
    """Each number means on the page what it means in the code."""
    assert numbered(section("Results")) == {
        result.value: result.name.lower().replace("_", " ") for result in Result
    }


def test_verbs_are_all_on_the_page() -> None:
    """So do the verbs."""
    assert numbered(section("Verbs")) == {
        verb.value: verb.name.lower().replace("_", " ") for verb in LineVerb
    }


def test_the_example_is_the_vector() -> None:
    """The frame that is spelled out is the first vector, byte for byte."""
    found = re.search(r"^on line  (.+)$", PAGE, re.MULTILINE)

    assert found is not None
    assert bytes.fromhex(found[1]) == LINES["identify"]


def test_sizes_are_on_the_page() -> None:
    """Every bound that a vendor has to know."""
    for size in (MAX_PAYLOAD_BYTES, MAX_STUFFED_BYTES, LOG_CHUNK_BYTES):
        assert f"{size:,}" in PAGE
    assert f"{CHALLENGE_BYTES} bytes" in PAGE
    assert f"10 to {MAX_BODY_BYTES}" in PAGE
    for layout in Layout:
        row = " | ".join(map(str, (*layout.value, layout.size_bytes)))
        assert f"| {layout.name.lower()} | {row} |" in PAGE


def test_the_dialogs_steps_are_drawn_in_their_order() -> None:
    """The diagram has each step, and no other."""
    drawn = re.findall(r"^    (\w+) -->", section("The docking dialog"), re.MULTILINE)

    assert list(dict.fromkeys(drawn)) == [step.value.replace("-", "_") for step in Step]


def test_socket_names_are_all_on_the_page() -> None:
    """The four letters of each."""
    assert re.findall(r"^\| `(\w{4})` \|", section("Socket frames"), re.MULTILINE) == [
        verb.value.decode() for verb in SocketVerb
    ]
