"""Which USB ports belong to which bay: found out by plugging something into each."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.mounting.port_paths import PortPath, is_below, order_of
from protocol.identifiers import BayNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One connector: its path, or two of them if it has one for each speed."""

    ports: tuple[PortPath, ...]


def plugged_in(before: Collection[PortPath], now: Collection[PortPath]) -> tuple[PortPath, ...]:
    """Return where something new is: of a hub and what hangs on it, the hub alone."""
    new = sorted(set(now) - set(before), key=order_of)
    return tuple(
        port for port in new if not any(port != other and is_below(port, other) for other in new)
    )


@dataclass(slots=True)
class BayMap:
    """The bays that are known so far."""

    bays: dict[BayNumber, Connector] = field(default_factory=dict)

    def owner_of(self, ports: Iterable[PortPath]) -> BayNumber | None:
        """Return the bay that has one of *ports* already, or what is above or below it."""
        for bay, connector in self.bays.items():
            for mine in connector.ports:
                if any(is_below(mine, port) or is_below(port, mine) for port in ports):
                    return bay
        return None


def as_toml(bays: Mapping[BayNumber, Connector]) -> str:
    """Return the bays as they stand in edge.toml."""
    return "\n".join(_table(bay, connector.ports) for bay, connector in sorted(bays.items()))


def _table(bay: BayNumber, ports: Sequence[PortPath]) -> str:
    listed = ", ".join(f'"{port}"' for port in ports)
    return f'[[bays]]\nnumber = {bay}\nsource = "usb"\nports = [{listed}]\n'
