"""The dock looks at itself and tells the site: the worst first, as much as a message holds."""

import asyncio
import contextlib
from collections.abc import Iterable

from edge_agent.adapters.check_up import CheckUp
from edge_agent.adapters.vitals import Vitals
from edge_agent.doctor.verdicts import Verdict
from protocol import strict_json
from protocol.messages import MAX_TELEMETRY_BYTES, DoctorReport, Health
from tests.simulators.sealed_manifests import DOCK, NOW


def _check_up(verdicts: Iterable[Verdict]) -> tuple[CheckUp, Vitals]:
    vitals = Vitals(dock=DOCK, bays=1, clock=lambda: NOW, free_bytes=lambda: 0)
    examined = CheckUp(dock=DOCK, examine=lambda: verdicts, clock=lambda: NOW, vitals=vitals)
    return examined, vitals


def _verdict(subject: str, health: Health, seen: str = "seen") -> Verdict:
    return Verdict(subject=subject, health=health, seen=seen, remedy="do it")


async def test_the_worst_is_told_first() -> None:
    """A fault comes before what is well, and the report is what telemetry tells next."""
    check_up, vitals = _check_up(
        [_verdict(health.value, health) for health in (Health.GOOD, Health.BAD, Health.SOON)]
    )

    report = await check_up.examine()

    assert [one.subject for one in report.examined] == ["bad", "soon", "good"]
    assert vitals.report == report
    assert vitals.touched.is_set()


async def test_a_report_is_a_message_whatever_was_seen() -> None:
    """Control characters, endless texts, and more things than a message holds."""
    check_up, _ = _check_up(
        [_verdict(f"{number}\x1b[31m", Health.BAD, "\x00漢" * 10_000) for number in range(200)]
    )

    data = strict_json.encode(await check_up.examine())

    report = strict_json.parse(data, DoctorReport, max_bytes=MAX_TELEMETRY_BYTES)
    assert len(report.examined) == 60
    assert all(one.seen.isprintable() for one in report.examined)


async def test_it_looks_at_the_start_and_again() -> None:
    """Until it is stopped."""
    looks = 0
    twice = asyncio.Event()
    loop = asyncio.get_running_loop()

    def examine() -> tuple[Verdict, ...]:
        nonlocal looks
        looks += 1
        if looks == 2:
            loop.call_soon_threadsafe(twice.set)
        return ()

    vitals = Vitals(dock=DOCK, bays=1, clock=lambda: NOW, free_bytes=lambda: 0)
    check_up = CheckUp(dock=DOCK, examine=examine, clock=lambda: NOW, vitals=vitals)
    running = asyncio.create_task(check_up.run(first_s=0, pause_s=0))
    await twice.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert vitals.report is not None
