"""How the dock as a whole is doing, for the console and for whoever stands beside it."""

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.adapters.latest import Latest
from edge_agent.adapters.notice_store import Clock
from edge_agent.adapters.outbox_store import OutboxCounts
from protocol.identifiers import DockId
from protocol.manifest import Isolation
from protocol.messages import Count, DockStatus, DoctorReport, Metrics

AGENT: Final = f"edge-agent {metadata.version('bayward')}"

_STATM: Final = Path("/proc/self/statm")  # proc(5): the second number is resident pages


class Counters(msgspec.Struct, kw_only=True):
    """What happened since the agent started."""

    ingested_files: Count = 0
    ingested_bytes: Count = 0
    uploaded_files: Count = 0
    uploaded_bytes: Count = 0
    receipts: Count = 0
    reconnects: Count = 0


class Vitals:
    """The facts of one agent that belong to no bay.

    Attributes:
        counters: Counted up by whoever does the thing.
        registry_version: 0 before the first registry.
        outbox: As it was when the outbox last changed.
        connected_since: None without a connection to the broker.
        problem: Why there is no connection, or what the broker refused.
        report: What the dock found when it looked at itself last.
        isolation: How it stands with the no-internet rule.
        touched: Set by `touch`: something in the status may have changed.
    """

    def __init__(
        self, *, dock: DockId, bays: int, clock: Clock, free_bytes: Callable[[], int]
    ) -> None:
        self.counters = Counters()
        self.registry_version = 0
        self.outbox = OutboxCounts(pending=0, refused=0, held_files=0)
        self.connected_since: datetime | None = None
        self.problem: str | None = None
        self.report: DoctorReport | None = None
        self.isolation = Isolation.NOT_ENFORCED
        self.touched = asyncio.Event()
        self._dock = dock
        self._bays = bays
        self._clock = clock
        self._free_bytes = Latest(lambda: asyncio.to_thread(free_bytes), 0)
        self._started = clock()

    async def status(self) -> DockStatus:
        """Return the dock's status as it is now."""
        return msgspec.structs.replace(
            self.will(),
            online=self.connected_since is not None,
            registry_version=self.registry_version,
            pending_manifests=self.outbox.pending,
            refused_manifests=self.outbox.refused,
            held_files=self.outbox.held_files,
            staging_free_bytes=await self._free_bytes.value(),
        )

    def will(self) -> DockStatus:
        """Return what the broker says of the dock when it goes without a word."""
        return DockStatus(
            dock=self._dock,
            online=False,
            since=self.connected_since or self._clock(),
            agent=AGENT,
            bays=self._bays,
            isolation=self.isolation,
        )

    def metrics(self) -> Metrics:
        """Return the counters and gauges of this moment."""
        now = self._clock()
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
        return Metrics(
            dock=self._dock,
            at=now,
            uptime_s=max(0, int((now - self._started).total_seconds())),
            memory_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            **msgspec.structs.asdict(self.counters),
        )
