"""Somebody beside the dock who plays router, or DHCP server: nothing of it stays, or comes in."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from protocol.manifest import Isolation
from tests.simulators.guarded_lan import PATIENCE_S, Guarded, prepared
from tests.simulators.lan import INTERNET, INTERNET6
from tests.simulators.rogue_router import ADDRESS, PREFIX, advertise, client, server

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces of its own"),
]

_NETWORK6 = PREFIX.rstrip(":")


def routes(guarded: Guarded) -> str:
    dock = guarded.site.dock
    return dock.ip("route show table all") + dock.ip("-6 route show table all")


def believe(guarded: Guarded) -> None:
    guarded.site.dock.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1")


def until_believed(guarded: Guarded) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not ("default" in routes(guarded) and _NETWORK6 in guarded.site.dock.ip("-6 address")):
        assert time.monotonic() < deadline_s, "nobody believed the router"


def try_the_internet(guarded: Guarded) -> None:
    """Send to it, by whatever route there is."""
    for to in (INTERNET, INTERNET6):
        command = guarded.site.dock.enter("ping", "-c", "1", "-W", "1", to)
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S)
        assert done.returncode != 0


def test_a_router_is_not_believed() -> None:
    """What one said before the guard began is undone and told; what one says later is refused."""
    with prepared(default_route=False) as guarded:
        believe(guarded)
        advertise(guarded.site.outside)
        until_believed(guarded)
        guarded.start()
        word = guarded.until(lambda word: word.isolation is Isolation.RESTORED)
        heard = guarded.site.heard("internet")
        believe(guarded)
        advertise(guarded.site.outside)
        guarded.until(lambda now: now.counted.packets > word.counted.packets)
        try_the_internet(guarded)

        assert {"E-ISO-102", "E-ISO-105", "E-ISO-107"} <= {one.code for one in word.incident}
        assert "default" not in routes(guarded)
        assert _NETWORK6 not in guarded.site.dock.ip("-6 address")
        assert guarded.site.heard("internet") == heard


@contextmanager
def serving(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def test_a_lease_is_given_back_and_none_is_got() -> None:
    """One from before the guard is undone and told; with it, not even the question leaves."""
    with prepared(default_route=False) as guarded:
        folder = guarded.folder / "dhcp"
        offering = server(guarded.site.outside, folder)
        asking = client(guarded.site.dock, folder, guarded.resolvers)
        with serving(offering):
            subprocess.run(asking, check=True, capture_output=True, timeout=PATIENCE_S)
            assert f"default via {ADDRESS}" in routes(guarded)
            guarded.start()
            word = guarded.until(lambda word: bool(word.open))
            guarded.resolvers.write_text("# none\n")
            guarded.until_restored("E-ISO-103")
            heard = guarded.site.heard("internet")
            again = subprocess.run(asking, check=False, capture_output=True, timeout=PATIENCE_S)
            try_the_internet(guarded)

        assert again.returncode == 1
        assert {one.code for one in word.open} == {"E-ISO-103"}
        assert {"E-ISO-102", "E-ISO-105"} <= {one.code for one in word.incident}
        assert "default" not in routes(guarded)
        assert "100.64" not in guarded.site.dock.ip("address")
        assert guarded.resolvers.read_text() == "# none\n"
        assert guarded.site.heard("internet") == heard
