"""The registry that this dock obeys now, in memory for the bays."""

from edge_agent.adapters.pulse import Pulse
from protocol.registry import RecorderEntry, Registry


class RegistryBook:
    """The newest registry; None before the first one arrived.

    Attributes:
        changes: Beats whenever another registry is obeyed.
    """

    def __init__(self, registry: Registry | None) -> None:
        self.current = registry
        self.changes = Pulse()

    def replace(self, registry: Registry) -> None:
        """Obey *registry* from now on."""
        self.current = registry
        self.changes.beat()

    def find_recorder(self, *, model: str, serial: str) -> RecorderEntry | None:
        """Return the recorder that names itself so, or None: it is not registered."""
        if self.current is None:
            return None
        return self.current.find_recorder(model=model, serial=serial)
