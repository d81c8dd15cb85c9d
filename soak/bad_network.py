"""The network between a dock and its archive, where connections break, crawl and fall silent."""

import contextlib
from collections.abc import Iterator
from typing import Final

from demo.site import Site
from tests.simulators.fault_proxy import (
    HARMLESS,
    Fault,
    ProxyThread,
    proxy_thread,
    seeded_faults,
)

_BROKEN_SHARE: Final = 0.2


class BadNetwork:
    """Carries what a dock sends to broker and archive; from `bad_network`."""

    def __init__(self) -> None:
        self._proxies: list[ProxyThread] = []
        self._is_good = False

    @property
    def broken(self) -> int:
        """How many connections were broken in the middle."""
        return sum(len(proxy.struck) for proxy in self._proxies)

    @property
    def ports(self) -> tuple[int, ...]:
        """Where it listens, in the order in which the ways were laid."""
        return tuple(proxy.port for proxy in self._proxies)

    def lay(self, proxy: ProxyThread) -> None:
        """Add a way to somebody."""
        self._proxies.append(proxy)

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        for proxy in self._proxies:
            proxy.cut()

    def plug_in(self) -> None:
        """Carry connections again."""
        for proxy in self._proxies:
            proxy.plug_in()

    def be_good(self) -> None:
        """Break no more connections; those that crawl or are silent are cut once."""
        self._is_good = True
        self.cut()
        self.plug_in()

    def faults(self, seed: int) -> Iterator[Fault]:
        """Yield what befalls each connection, until the network is good."""
        for fault in seeded_faults(seed, share=_BROKEN_SHARE):
            yield HARMLESS if self._is_good else fault


@contextlib.contextmanager
def bad_network(site: Site, seed: int) -> Iterator[BadNetwork]:
    """Stand between the dock and both that it connects to, before the site is prepared."""
    network = BadNetwork()
    with contextlib.ExitStack() as stack:
        for number, port in enumerate((site.mqtt_port, site.https_port)):
            faults = network.faults(2 * seed + number)
            network.lay(stack.enter_context(proxy_thread("127.0.0.1", port, faults=faults)))
        site.dock_mqtt_port, site.dock_https_port = network.ports
        yield network
