import pytest

from edge_agent.mounting.port_paths import is_below, order_of, parse_port


@pytest.mark.parametrize("text", ["1-1", "2-1.4", "10-12.3.4.5.6.7"])
def test_a_port_path(text: str) -> None:
    """A bus, a port, and the ports of hubs."""
    assert parse_port(text) == text


@pytest.mark.parametrize(
    "text", ["", "usb1", "1-1:1.0", "1-0", "0-1", "1-1.", "1-1.2.3.4.5.6.7", "../1-1", "1-1\n"]
)
def test_what_is_no_port_path(text: str) -> None:
    """Interfaces, buses, links and anything else are none."""
    assert parse_port(text) is None


def test_behind_a_hub_is_below() -> None:
    """What hangs on a hub at a port is at that port; a port with a longer number is not."""
    assert is_below("1-1.2", "1-1")
    assert is_below("1-1", "1-1")
    assert not is_below("1-11", "1-1")
    assert not is_below("1-1", "1-1.2")


def test_ports_are_sorted_as_numbers() -> None:
    """Port 9 is before port 10."""
    assert sorted(["1-10", "1-9.2", "1-9", "2-1"], key=order_of) == ["1-9", "1-9.2", "1-10", "2-1"]
