"""Whether a recorder is in a bay, whatever tells it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from edge_agent.drivers.dialog import StepReport
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A recorder is there.

    Attributes:
        problem: Why its volume cannot be read, as a code and a text; None if it can.
    """

    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The recorder that was there is gone, or another one is in its place."""


class Presence(Protocol):
    """Looks after one bay."""

    def changes(self) -> AsyncIterator[Arrived | Left]:
        """Yield Arrived and Left in turn, Arrived first; ends only when it is closed."""

    async def remember_content(self) -> None:
        """Take what is listed now as what there is; to be called before it is read."""

    async def ready(self, report: Callable[[StepReport], None]) -> Told | None:
        """Have the volume appear where a recorder must be asked to; return what it told.

        Args:
            report: Called in the event loop for each step of the talk.

        Raises:
            DriverError: The talk failed, or no volume came.
            MountError: The volume is there and cannot be mounted.
            SourceVanishedError: The recorder left.
        """

    def mount(self, *, read_limit_bytes_s: int | None = None) -> AbstractContextManager[Volume]:
        """Open the volume of the recorder that is there; blocking.

        Raises:
            SourceVanishedError: There is none any more.
        """
