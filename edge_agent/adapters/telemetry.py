"""What the dock tells about itself over one connection: status, bays, metrics, alerts."""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.vitals import Vitals
from protocol import strict_json
from protocol.identifiers import BayNumber, DockId
from protocol.messages import BayMessage, DockStatus, DoctorReport
from protocol.topics import Channel, of_bay, of_dock
from runtime.errors import LinkRefusedError
from runtime.link import Delivered, Link

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryPace:
    """How often things are told.

    Attributes:
        bay_s: One bay at most once in this time, but a change of its state at once.
        metrics_s: Metrics, and the status if it changed.
        alerts_s: Alerts that nobody was subscribed to are offered again after this time.
    """

    bay_s: float = 0.5
    metrics_s: float = 10.0
    alerts_s: float = 30.0


class Telemetry:
    """Publishes over one connection; the next connection has its own."""

    def __init__(
        self,
        link: Link,
        *,
        dock: DockId,
        board: BayBoard,
        vitals: Vitals,
        notices: NoticeStore,
        pace: TelemetryPace,
    ) -> None:
        self._link = link
        self._dock = dock
        self._board = board
        self._vitals = vitals
        self._notices = notices
        self._pace = pace
        self._told_status: DockStatus | None = None
        self._told_report: DoctorReport | None = None
        self._told_bays: dict[BayNumber, tuple[BayMessage, float]] = {}

    async def introduce(self) -> None:
        """Publish the status, every bay and every alert that nobody has taken, once."""
        await self._publish_status()
        await self._publish_bays()
        await self._publish_alerts()

    async def run(self) -> None:
        """Publish what changes, until the connection ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_bays(), name="telemetry bays")
            group.create_task(self._keep_status(), name="telemetry status")
            group.create_task(self._keep_metrics(), name="telemetry metrics")
            group.create_task(self._keep_alerts(), name="telemetry alerts")

    async def _keep_bays(self) -> None:
        while True:
            turns = self._board.turns.beats
            due_s = await self._publish_bays()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due_s):
                    await self._board.turns.beyond(turns)

    async def _publish_bays(self) -> float | None:
        """Publish what is due; return when the next bay is, by the loop's clock."""
        loop = asyncio.get_running_loop()
        due_s: list[float] = []
        for message in self._board.bays():
            when_s = _due_s(message, self._told_bays.get(message.bay), self._pace.bay_s)
            if when_s is None:
                continue
            if when_s > loop.time():
                due_s.append(when_s)
                continue
            self._told_bays[message.bay] = message, loop.time()
            await self._tell(of_bay(self._dock, message.bay), strict_json.encode(message))
        return min(due_s, default=None)

    async def _keep_status(self) -> None:
        while True:
            await _set_within(self._vitals.touched, self._pace.metrics_s)
            self._vitals.touched.clear()
            await self._publish_status()
            await asyncio.sleep(self._pace.bay_s)

    async def _publish_status(self) -> None:
        status = await self._vitals.status()
        if status != self._told_status:
            self._told_status = status
            await self._tell(of_dock(self._dock, Channel.STATUS), strict_json.encode(status))
        report = self._vitals.report
        if report is not None and report != self._told_report:
            self._told_report = report
            await self._tell(of_dock(self._dock, Channel.DOCTOR), strict_json.encode(report))

    async def _keep_metrics(self) -> None:
        topic = of_dock(self._dock, Channel.METRICS)
        while True:
            await self._link.publish(topic, strict_json.encode(self._vitals.metrics()), qos=0)
            await asyncio.sleep(self._pace.metrics_s)

    async def _keep_alerts(self) -> None:
        while True:
            await _set_within(self._notices.raised, self._pace.alerts_s)
            await self._publish_alerts()

    async def _publish_alerts(self) -> None:
        self._notices.raised.clear()
        topic = of_dock(self._dock, Channel.ALERTS)
        for alert in await self._notices.undelivered_alerts():
            if await self._tell(topic, strict_json.encode(alert), retain=False):
                await self._notices.mark_delivered(alert.alert_id)

    async def _tell(self, topic: str, payload: bytes, *, retain: bool = True) -> bool:
        """Publish, and return whether somebody was subscribed; a refusal ends no connection."""
        try:
            return await self._link.publish(topic, payload, retain=retain) is Delivered.ACCEPTED
        except LinkRefusedError as error:
            self._vitals.problem = f"{error.code}: {error}"
            _log.error("publish refused", topic=topic, code=error.code, detail=str(error))
            return False


def _due_s(
    message: BayMessage, told: tuple[BayMessage, float] | None, pause_s: float
) -> float | None:
    """Return when a bay's message is to be told; None if there is nothing new in it."""
    if told is None:
        return 0
    last, told_s = told
    if message == last:
        return None
    at_once = (message.state, message.problem) != (last.state, last.problem)
    return 0 if at_once else told_s + pause_s


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Return when *event* is set, or after *timeout_s*."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
