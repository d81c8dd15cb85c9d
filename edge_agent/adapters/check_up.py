"""The dock looks at itself as a technician would, at its start and once a day, and tells."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import structlog

from edge_agent.adapters.notice_store import plain_text
from edge_agent.adapters.vitals import Vitals
from edge_agent.doctor.verdicts import Verdict
from protocol.identifiers import DockId
from protocol.messages import DoctorReport, Examined, Health

_DAY_S: Final = 24 * 3600.0
# After a start, broker and archive are given a moment to be found well.
_FIRST_S: Final = 20.0
_MOST: Final = 60
_MOST_CHARACTERS: Final = 500
_MOST_SUBJECT: Final = 128

_log = structlog.get_logger(__name__)


class CheckUp:
    """Examines, and leaves the report with the vitals."""

    def __init__(
        self,
        *,
        dock: DockId,
        examine: Callable[[], Iterable[Verdict]],
        clock: Callable[[], datetime],
        vitals: Vitals,
    ) -> None:
        """*examine* looks at everything; blocking, for minutes if much is ill."""
        self._dock = dock
        self._examine = examine
        self._clock = clock
        self._vitals = vitals

    async def run(self, *, first_s: float = _FIRST_S, pause_s: float = _DAY_S) -> None:
        """Examine again and again, until cancelled."""
        await asyncio.sleep(first_s)
        while True:
            await self.examine()
            await asyncio.sleep(pause_s)

    async def examine(self) -> DoctorReport:
        """Look at everything now."""
        verdicts = await asyncio.to_thread(lambda: tuple(self._examine()))
        report = DoctorReport(
            dock=self._dock,
            at=self._clock(),
            # The worst first: they are told whatever happens.
            examined=tuple(map(_told, sorted(verdicts, key=_urgency)))[:_MOST],
        )
        for one in report.examined:
            if one.health is Health.BAD:
                _log.error("doctor", subject=one.subject, seen=one.seen, remedy=one.remedy)
        self._vitals.report = report
        self._vitals.touched.set()
        return report


def _urgency(verdict: Verdict) -> int:
    return -list(Health).index(verdict.health)


def _told(verdict: Verdict) -> Examined:
    return Examined(
        subject=plain_text(verdict.subject, _MOST_SUBJECT),
        health=verdict.health,
        seen=plain_text(verdict.seen, _MOST_CHARACTERS),
        remedy=plain_text(verdict.remedy, _MOST_CHARACTERS),
    )
