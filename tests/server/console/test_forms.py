from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_agent.console.forms import local_address
from server_agent.console.paging import Paging, page_number

OURS = "http://console.example:8443/login"


@pytest.mark.parametrize("address", ["/", "/bays", "/recordings?day=2026-11-23&page=2"])
def test_our_addresses_pass(address: str) -> None:
    """A path of ours, with or without a query, is where somebody may go back to."""
    assert local_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "bays",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "///elsewhere.example",
        "https://elsewhere.example/",
        "javascript:alert(1)",
        "/\t/elsewhere.example",
        "/\n/elsewhere.example",
        "/［",
    ],
)
def test_other_addresses_do_not(address: str | None) -> None:
    """Nothing that a browser could take for another place."""
    assert local_address(address) is None


@given(st.text(alphabet="/\\:.@?#[]ab\t\n\0 %", max_size=12))
def test_what_passes_stays_here(address: str) -> None:
    """Whatever passes resolves to our own scheme, host and port."""
    passed = local_address(address)
    if passed is not None:
        there = urlsplit(urljoin(OURS, passed))

        assert (there.scheme, there.netloc) == ("http", "console.example:8443")


@given(st.integers(min_value=1, max_value=500), st.integers(min_value=0, max_value=5000))
def test_pages_reach_everything(number: int, total: int) -> None:
    """Following "older" from the first page ends at the last, and "newer" leads back."""
    paging = Paging(number=number, total=total, rows=50, kept="day=2026-11-23")

    assert (paging.last - 1) * 50 <= max(total, 1)
    assert paging.last * 50 >= total
    assert (paging.older is not None) == (number < paging.last)
    assert (paging.newer is not None) == (number > 1)
    assert paging.older is None or f"page={number + 1}" in paging.older


@given(st.text(max_size=20) | st.none())
def test_any_page_is_a_page(asked: str | None) -> None:
    """What is no number asks for the first page."""
    assert page_number(asked) >= 1
