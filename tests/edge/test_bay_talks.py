"""A bay whose recorders are talked to before they are read: real lines, simulated recorders."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from edge_agent.adapters.bay_supervisor import BaySettings
from edge_agent.adapters.clock_store import ClockStore
from edge_agent.adapters.directory_presence import DirectoryPresence
from edge_agent.adapters.presence import Presence
from edge_agent.adapters.recorder_logs import RecorderLogs
from edge_agent.adapters.recorder_talk import KeepLog, RecorderTalk, TalkSettings
from edge_agent.adapters.talking_presence import TalkingPace, TalkingPresence
from edge_agent.drivers.dialog import Limits
from edge_agent.drivers.driver import DevicePassword
from edge_agent.one_thread import OneThread
from protocol.findings import FindingCode
from protocol.manifest import Manifest
from protocol.messages import BayState
from tests.drivers.program import Program, running
from tests.edge.test_bay_supervisor import BAY, Bay, bay
from tests.simulators.bay_folders import dock_recorder

__all__ = ["bay"]

pytestmark = pytest.mark.processes

SHANGHAI = ZoneInfo("Asia/Shanghai")
LIMITS = Limits(tries=2, pause_s=0)
Run = Callable[..., contextlib.AbstractContextManager[Program]]


@pytest.fixture
def recorder(bay: Bay, tmp_path: Path) -> Run:
    """Return what runs a simulated recorder, with footage, plugged into the bay."""
    card = tmp_path / "card"
    bay.folder.parent.mkdir()
    dock_recorder(card)

    @contextlib.contextmanager
    def run(*flags: str) -> Iterator[Program]:
        places = ("--link", str(tmp_path / "tty"), "--volume", str(card), "--bay", str(bay.folder))
        with running(*places, "--disk-mode-after", "0.1", *flags) as program:
            yield program

    return run


def talking(
    bay: Bay,
    tmp_path: Path,
    *,
    password: bytes | None = None,
    pace: TalkingPace | None = None,
    keep_log: KeepLog | None = None,
) -> BaySettings:
    """Return a bay with a serial port at a link."""
    settings = TalkSettings(
        driver="line-protocol-1",
        zone=SHANGHAI,
        password=None if password is None else DevicePassword(password),
        limits=LIMITS,
        keep_log=keep_log,
    )

    def make(thread: OneThread, is_relied_on: Callable[[], bool]) -> Presence:
        return TalkingPresence(
            DirectoryPresence(bay.folder, thread, is_relied_on=is_relied_on),
            lambda: tmp_path / "tty",
            RecorderTalk(
                settings, thread, ClockStore(bay.site.journal), clock=lambda: datetime.now(UTC)
            ),
            thread,
            pace=pace or TalkingPace(poll_s=0.05),
        )

    return BaySettings(number=BAY, presence=make)


async def manifest(bay: Bay) -> Manifest:
    return (await bay.site.manifests())[-1]


def codes(found: Manifest) -> set[FindingCode]:
    return {finding.code for finding in found.findings}


async def test_a_recorder_is_asked_and_then_read(bay: Bay, recorder: Run, tmp_path: Path) -> None:
    """Its battery is shown, its clock stands in the manifest as it was before it was set."""
    with recorder("--clock", "1980-01-01T00:00:00", "--battery", "42"):
        async with bay.served(talking(bay, tmp_path)):
            shown = await bay.until_state(BayState.SEALED)

    found = await manifest(bay)
    assert (shown.battery_percent, shown.files_done) == (42, 3)
    assert found.clock.recorder_time is not None
    assert found.clock.recorder_time.year == 1980
    assert found.clock.drift_ms is not None
    assert timedelta(milliseconds=found.clock.drift_ms) < timedelta(days=-40 * 365)
    assert codes(found) == {FindingCode.CLOCK_WAS_OFF}
    assert sum(len(one.clips) for one in found.recordings) == 3


async def test_a_good_recorder_has_nothing_to_be_said(
    bay: Bay, recorder: Run, tmp_path: Path
) -> None:
    """Serial, officer, clock and networks are as they should be."""
    with recorder():
        async with bay.served(talking(bay, tmp_path)):
            await bay.until_state(BayState.SEALED)

    assert not codes(await manifest(bay))


async def test_its_own_log_is_kept(bay: Bay, recorder: Run, tmp_path: Path) -> None:
    """Where the bay is told to ask for it; the footage is read as ever."""
    logs = RecorderLogs(tmp_path / "logs")
    with recorder():
        settings = talking(bay, tmp_path, keep_log=partial(logs.keep, bay=BAY))
        async with bay.served(settings):
            await bay.until_state(BayState.SEALED)

    kept = logs.newest(BAY)
    assert kept is not None
    assert kept.read_bytes() == b"power on\r\n"


async def test_a_disk_that_takes_no_log_keeps_no_footage_from_us(
    bay: Bay, recorder: Run, tmp_path: Path
) -> None:
    """Nobody repairs a recorder with footage that was not taken."""

    def fail(log: object, *, serial: str, at: datetime) -> Path:  # noqa: ARG001 - as KeepLog has it
        raise OSError(errno.ENOSPC, "no space")

    with recorder():
        async with bay.served(talking(bay, tmp_path, keep_log=fail)):
            shown = await bay.until_state(BayState.SEALED)

    assert shown.files_done == 3


async def test_it_is_gone_when_port_and_volume_are(bay: Bay, recorder: Run, tmp_path: Path) -> None:
    """Pulled after it was read, it has left; plugged in again, it is asked again."""
    async with bay.served(talking(bay, tmp_path)):
        for _ in range(2):
            with recorder():
                await bay.until_state(BayState.SEALED)
            await bay.until_state(BayState.EMPTY)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("silence:identify", "E-DRV-101"),
        ("half-frame:identify", "E-DRV-102"),
        ("wrong-checksum:identify", "E-DRV-102"),
        ("refusal:enter-disk-mode", "E-DRV-103"),
        ("password-refused", "E-DRV-10"),
        ("flood:identify", "E-DRV-10"),
    ],
)
async def test_a_talk_that_cannot_go_on_asks_for_a_person(
    bay: Bay, recorder: Run, tmp_path: Path, fault: str, code: str
) -> None:
    """The bay says at which step and why; without the recorder it is empty again."""
    with recorder("--fault", fault):
        async with bay.served(talking(bay, tmp_path)):
            shown = await bay.until_state(BayState.ATTENTION)

    assert shown.problem == "E-DRV-112"
    assert shown.problem_text is not None
    assert code in shown.problem_text
    assert not await bay.site.manifests()


@pytest.mark.parametrize(
    "fault",
    [
        "silence:read-battery",
        "garbage:identify:1",
        "half-frame:read-clock:1",
        "unsupported:set-clock",
    ],
)
async def test_what_can_be_done_without_costs_no_footage(
    bay: Bay, recorder: Run, tmp_path: Path, fault: str
) -> None:
    """A step that fails, or passes at the second try, does not keep it from being read."""
    with recorder("--fault", fault):
        async with bay.served(talking(bay, tmp_path)):
            await bay.until_state(BayState.SEALED)

    expected = {FindingCode.DIALOG_INCOMPLETE} if fault.startswith("silence") else set()
    assert codes(await manifest(bay)) == expected


async def test_a_port_that_leaves_before_the_volume_comes(
    bay: Bay, recorder: Run, tmp_path: Path
) -> None:
    """Re-enumeration is no leaving: it is one recorder, docked once."""
    states: set[BayState] = set()

    def is_sealed(state: BayState) -> bool:
        states.add(state)
        return state is BayState.SEALED

    with recorder("--fault", "re-enumeration:enter-disk-mode:1", "--disk-mode-after", "0.5"):
        async with bay.served(talking(bay, tmp_path)):
            await bay.until(lambda shown: is_sealed(shown.state))

    assert BayState.ATTENTION not in states
    assert len(await bay.site.manifests()) == 1


async def test_a_volume_that_never_comes(bay: Bay, recorder: Run, tmp_path: Path) -> None:
    """A recorder that promises a disk and shows none asks for a person."""
    with recorder("--disk-mode-after", "80000"):
        async with bay.served(talking(bay, tmp_path, pace=TalkingPace(poll_s=0.05, volume_s=0.2))):
            shown = await bay.until_state(BayState.ATTENTION)

    assert shown.problem == "E-DRV-113"


async def test_the_bays_password_opens_it(bay: Bay, recorder: Run, tmp_path: Path) -> None:
    """It is used, and neither shown nor logged."""
    with recorder("--password", "geheim"):
        async with bay.served(talking(bay, tmp_path, password=b"geheim")):
            shown = await bay.until_state(BayState.SEALED)

    assert shown.problem is None


async def test_a_recorder_that_was_a_disk_already(bay: Bay, tmp_path: Path) -> None:
    """After a power cut of the dock nobody has to be asked: the volume is there."""
    dock_recorder(bay.folder)
    async with bay.served(talking(bay, tmp_path)):
        await bay.until_state(BayState.SEALED)

    assert (await manifest(bay)).clock.drift_ms is None
