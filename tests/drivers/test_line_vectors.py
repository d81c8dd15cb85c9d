"""The vectors of the line protocol, both ways."""

from typing import Any

import pytest

from edge_agent.drivers.driver import DevicePassword
from edge_agent.drivers.line_frames import FrameDecoder, encode_frame
from edge_agent.drivers.line_messages import (
    Result,
    parse_battery,
    parse_clock,
    parse_identity,
    parse_log_chunk,
    parse_network_settings,
    parse_resolution,
    proof_of,
)
from edge_agent.drivers.user_information import (
    Layout,
    parse_user_information,
    write_user_information,
)
from tests.drivers.vectors import FRAMES, LINES, read


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_written_as_its_vector(name: str) -> None:
    """What is to be sent is exactly these bytes."""
    assert encode_frame(FRAMES[name]) == LINES[name]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_read_from_its_vector(name: str) -> None:
    """These bytes are exactly this frame."""
    decoder = FrameDecoder()

    assert decoder.feed(LINES[name]) == [FRAMES[name]]
    assert decoder.damaged_frames == 0


@pytest.mark.parametrize("case", read("streams"), ids=lambda case: case["name"])
def test_a_stream_has_the_frames_of_its_vector(case: dict[str, Any]) -> None:
    """Noise, damage and versions that nobody knows cost nothing but themselves."""
    assert FrameDecoder().feed(bytes.fromhex(case["line"])) == [
        FRAMES[name] for name in case["frames"]
    ]


@pytest.mark.parametrize("case", read("unlock"), ids=lambda case: case["name"])
def test_a_proof_is_its_vector(case: dict[str, Any]) -> None:
    """The password, the session and the challenge give these 32 bytes."""
    password = DevicePassword(bytes.fromhex(case["password"]))

    proof = proof_of(password, session=case["session"], challenge=bytes.fromhex(case["challenge"]))

    assert proof.hex() == case["proof"]


@pytest.mark.parametrize("case", read("user-information"), ids=lambda case: case["name"])
def test_user_information_is_its_vector(case: dict[str, Any]) -> None:
    """Both layouts, both ways."""
    payload = bytes.fromhex(case["payload"])
    names = ("serial", "user_number", "user_name", "unit_number", "unit_name")

    told = parse_user_information(payload)

    assert told.layout.size_bytes == case["layout_bytes"] == len(payload)
    assert {name: getattr(told, name).text for name in names} == {
        name: case[name] for name in names
    }
    assert told.raw == payload
    one, two, three, four, five = (case[name].encode("gbk") for name in names)
    layout = next(one for one in Layout if one.size_bytes == case["layout_bytes"])
    assert write_user_information(layout, (one, two, three, four, five)) == payload


def test_payloads_say_what_their_vectors_are_named_after() -> None:
    """Each answer's payload is parsed to the value in its name."""
    payloads = {name: frame.payload for name, frame in FRAMES.items()}

    identity = parse_identity(payloads["identify-answer"])
    assert (identity.type_code.text, identity.serial.text) == ("BW-01", "0000017")
    assert (identity.model.text, identity.firmware.text) == ("示例", "1.0")
    assert parse_clock(payloads["clock-1980"]).untrusted_text == b"19800101000000"
    assert parse_battery(payloads["battery-0"]).charge_percent == 0
    assert parse_battery(payloads["battery-100"]).charge_percent == 100
    resolution = parse_resolution(payloads["resolution"])
    assert (resolution.width_px, resolution.height_px) == (1920, 1080)
    assert parse_network_settings(payloads["network-blank"]).is_blank
    network = parse_network_settings(payloads["network-set"])
    assert network.wifi_name.text == "办公室"
    assert network.server.text == "10.0.0.1:9000"
    assert not network.is_blank
    assert parse_log_chunk(payloads["log-end"]) == (1010, b"power off\n")


def test_results_are_those_of_the_common_interface() -> None:
    """1 to 8 mean what they mean on other recorders."""
    assert [result.name for result in Result if result <= 8] == [
        "CONNECTED",
        "NOT_CONNECTED",
        "PASSWORD_RIGHT",
        "PASSWORD_WRONG",
        "CLOCK_SET",
        "CLOCK_FAILED",
        "DISK_MODE_ENTERED",
        "DISK_MODE_FAILED",
    ]
