"""Lamps and a charger show what the board shows; one that fails is said once, and comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, cast

import pytest

from demo.programs import ours
from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.bay_face import empty_bay
from edge_agent.adapters.bay_lights import BayLights, ChargerOutput, Lamps, LedOutput, Signals
from edge_agent.adapters.guard_link import Isolated
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.errors import ChargerFailedError, LampFailedError
from edge_agent.lights.charger import Slot
from edge_agent.lights.signals import Signal
from protocol.identifiers import BayNumber
from protocol.manifest import Isolation
from protocol.messages import BayMessage, BayState, Charging
from tests.drivers.program import Program, running
from tests.simulators.sealed_manifests import DOCK, NOW

ONE, TWO = BayNumber(1), BayNumber(2)
SAFE: Final = {ONE: Signal.SAFE_TO_TAKE, TWO: Signal.EMPTY}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _lamp(folder: Path, name: str) -> Path:
    """A lamp with the files of the kernel's LED class, that a disk's activity blinks."""
    lamp = folder / name
    lamp.mkdir()
    for file, content in (("brightness", "0"), ("max_brightness", "255"), ("trigger", "disk")):
        (lamp / file).write_text(content)
    return lamp


def _is_lit(lamp: Path) -> bool:
    return (lamp / "brightness").read_text() != "0"


@pytest.fixture
def lamps(tmp_path: Path) -> Mapping[BayNumber, Lamps]:
    return {
        ONE: Lamps(green=_lamp(tmp_path, "1:green"), red=_lamp(tmp_path, "1:red")),
        TWO: Lamps(green=_lamp(tmp_path, "2:green")),
    }


def test_lamps_burn_as_the_signals_say(lamps: Mapping[BayNumber, Lamps]) -> None:
    """Steadily, slowly, quickly; and nothing else blinks them any more."""
    clock = Clock()
    output = LedOutput(lamps, clock)
    green, red = lamps[ONE].green, lamps[ONE].red
    assert red is not None
    seen = []
    for quarter in range(8):
        clock.now_s = quarter * 0.25
        output.show({ONE: Signal.READING, TWO: Signal.ATTENTION})
        seen.append((_is_lit(green), _is_lit(red), _is_lit(lamps[TWO].green)))
    output.show(SAFE)

    assert [one[:2] for one in seen] == [(True, True)] * 4 + [(False, False)] * 4
    assert [one[2] for one in seen] == [True, False] * 4
    assert (_is_lit(green), _is_lit(red), _is_lit(lamps[TWO].green)) == (True, False, False)
    assert (green / "brightness").read_text() == "255"
    assert (green / "trigger").read_text() == "none"


def test_steady_lamps_are_left_alone(lamps: Mapping[BayNumber, Lamps]) -> None:
    """A lamp is written when it changes; a blinking one wants to be seen to more often."""
    output = LedOutput(lamps, Clock())
    output.show(SAFE)
    (lamps[ONE].green / "brightness").write_text("77")

    output.show(SAFE)

    assert (lamps[ONE].green / "brightness").read_text() == "77"
    assert output.pace_s({ONE: Signal.READING, TWO: Signal.EMPTY}) < output.pace_s(SAFE)


def test_a_lamp_that_is_gone(lamps: Mapping[BayNumber, Lamps]) -> None:
    """It has a code; when it is back, its trigger is taken over again."""
    output = LedOutput(lamps, Clock())
    brightness = lamps[TWO].green / "brightness"
    brightness.unlink()
    brightness.mkdir()

    with pytest.raises(LampFailedError, match="2:green"):
        output.show(SAFE)
    brightness.rmdir()
    brightness.write_text("0")
    output.show({ONE: Signal.EMPTY, TWO: Signal.SAFE_TO_TAKE})

    assert _is_lit(lamps[TWO].green)


@contextlib.contextmanager
def _charger(*arguments: str) -> Iterator[Program]:
    with running(*arguments, program=tuple(ours("charger-simulator"))) as program:
        yield program


def test_a_charger_shows_and_tells() -> None:
    """Its lights follow, slot by slot; it says how each one charges."""
    with _charger("--slots", "3", "--slot", "1:charging:55", "--slot", "2:fault") as charger:
        output = ChargerOutput(charger.path, Clock())
        slots = output.show(SAFE)
        lit = charger.next_line()
        output.close()

    assert lit == "slot 1 safe-to-take"
    assert slots == {
        1: Slot(charging=Charging.CHARGING, percent=55),
        2: Slot(charging=Charging.FAULT, percent=None),
        3: Slot(charging=None, percent=None),
    }


@pytest.mark.parametrize(
    "fault", ["half-frame:1", "wrong-checksum:1", "wrong-length:2", "refusal:1"]
)
def test_a_charger_that_answers_wrongly(fault: str) -> None:
    """It has a code, and the next try begins anew."""
    with _charger("--slots", "2", "--fault", fault) as charger:
        clock = Clock()
        output = ChargerOutput(charger.path, _hurrying(clock))
        with pytest.raises(ChargerFailedError, match="E-DRV"):
            output.show(SAFE)
        output.show(SAFE)
        output.close()


def test_noise_before_an_answer_is_passed_over() -> None:
    """What stands between two zero bytes is no frame; the next one is."""
    with _charger("--slots", "2", "--fault", "garbage:1") as charger:
        output = ChargerOutput(charger.path, Clock())
        assert len(output.show(SAFE)) == 2
        output.close()


def test_a_charger_that_is_not_there(tmp_path: Path) -> None:
    """No port, or no serial port."""
    (tmp_path / "file").touch()
    for name in ("nothing", "file"):
        with pytest.raises(ChargerFailedError, match="E-DRV"):
            ChargerOutput(tmp_path / name, Clock()).show(SAFE)


def _hurrying(clock: Clock) -> Clock:
    """Make each look at the clock half a second later, so that nobody waits for nothing."""

    class Hurrying(Clock):
        def __call__(self) -> float:
            clock.now_s += 0.5
            return clock.now_s

    return Hurrying()


class Shown:
    """An output that remembers what it was shown, and fails when it is told to."""

    name = "shown"

    def __init__(self) -> None:
        self.signals: list[dict[BayNumber, Signal]] = []
        self.is_failing = False
        self.was_closed = False
        self.slots: Mapping[BayNumber, Slot] = {}

    def pace_s(self, signals: Signals) -> float:
        return 0.01 if signals else 1.0

    def show(self, signals: Signals) -> Mapping[BayNumber, Slot]:
        self.signals.append(dict(signals))
        if self.is_failing:
            raise ChargerFailedError("it is gone")
        return self.slots

    def close(self) -> None:
        self.was_closed = True


class Alerts:
    """Takes alerts as the store does."""

    def __init__(self) -> None:
        self.raised: list[Notice] = []

    async def raise_alert(self, notice: Notice) -> None:
        self.raised.append(notice)


def _bay(state: BayState) -> BayMessage:
    return BayMessage(dock=DOCK, bay=ONE, state=state, changed_at=NOW)


@contextlib.asynccontextmanager
async def _kept(
    board: BayBoard, output: Shown, alerts: Alerts, isolated: Isolated | None = None
) -> AsyncIterator[BayLights]:
    lights = BayLights(board, [output], cast("NoticeStore", alerts), isolated or Isolated())
    task = asyncio.create_task(lights.run())
    try:
        yield lights
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for happens in a thread
        await asyncio.sleep(0)


async def _until_shown(output: Shown, signal: Signal) -> None:
    await _until(lambda: output.signals and output.signals[-1][ONE] is signal)


async def test_lights_follow_the_board_and_rest_at_the_end() -> None:
    """What was safe is not, once nobody looks after the light any more."""
    board = BayBoard([empty_bay(DOCK, ONE, lambda: NOW)])
    output, alerts = Shown(), Alerts()
    async with _kept(board, output, alerts):
        await _until_shown(output, Signal.EMPTY)
        board.show(_bay(BayState.INGESTING))
        await _until_shown(output, Signal.READING)
        board.show(_bay(BayState.RELEASABLE))
        await _until_shown(output, Signal.SAFE_TO_TAKE)

    assert output.signals[-1] == {ONE: Signal.DO_NOT_TAKE}
    assert output.was_closed
    assert not alerts.raised


async def test_a_bay_that_somebody_looks_for() -> None:
    """It says so for a time, whatever is in it."""
    board = BayBoard([empty_bay(DOCK, ONE, lambda: NOW)])
    output = Shown()
    async with _kept(board, output, Alerts()) as lights:
        lights.identify(ONE, 3600)
        await _until_shown(output, Signal.IDENTIFY)
        lights.identify(ONE, 0)
        await _until_shown(output, Signal.EMPTY)


async def test_a_broken_no_internet_rule_is_seen_at_the_dock() -> None:
    """Empty bays say so, until it is over; a recorder's own bay says what becomes of it."""
    board = BayBoard([empty_bay(DOCK, ONE, lambda: NOW)])
    output, isolated = Shown(), Isolated(Isolation.HOLDING)
    async with _kept(board, output, Alerts(), isolated):
        await _until_shown(output, Signal.EMPTY)
        isolated.become(Isolation.BREACHED)
        await _until_shown(output, Signal.ATTENTION)
        board.show(_bay(BayState.RELEASABLE))
        await _until_shown(output, Signal.SAFE_TO_TAKE)
        board.show(_bay(BayState.EMPTY))
        await _until_shown(output, Signal.ATTENTION)
        isolated.become(Isolation.RESTORED)
        await _until_shown(output, Signal.EMPTY)


async def test_an_output_that_fails_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is tried; when it is well again, the next time is told anew."""
    monkeypatch.setattr("edge_agent.adapters.bay_lights._PAUSE_S", 0.001)
    board = BayBoard([empty_bay(DOCK, ONE, lambda: NOW)])
    output, alerts = Shown(), Alerts()
    output.is_failing = True
    async with _kept(board, output, alerts) as lights:
        await _until(lambda: len(output.signals) >= 4)
        assert lights.problems == {"shown": "E-LGT-102: it is gone"}
        output.is_failing = False
        await _until(lambda: not lights.problems)

    assert [one.code for one in alerts.raised] == ["E-LGT-102"]


async def test_what_a_charger_says_is_on_the_board() -> None:
    """Of a bay that is there; a recorder's own word for its battery goes first."""
    board = BayBoard([empty_bay(DOCK, ONE, lambda: NOW)])
    output = Shown()
    output.slots = {
        ONE: Slot(charging=Charging.CHARGING, percent=40),
        BayNumber(9): Slot(charging=Charging.FULL, percent=100),
    }
    async with _kept(board, output, Alerts()):
        await _until(lambda: board.bay(ONE).charging)
        told = board.bay(ONE)
        board.show(BayMessage(dock=DOCK, bay=ONE, state=BayState.SEALED, changed_at=NOW))
        kept = board.bay(ONE)
        board.show(
            BayMessage(
                dock=DOCK, bay=ONE, state=BayState.SEALED, changed_at=NOW, battery_percent=71
            )
        )
        own = board.bay(ONE)

    assert (told.charging, told.battery_percent) == (Charging.CHARGING, 40)
    assert (kept.charging, kept.battery_percent) == (Charging.CHARGING, 40)
    assert (own.charging, own.battery_percent) == (Charging.CHARGING, 71)


def test_what_a_charger_says_no_more_is_not_shown() -> None:
    """A slot that is empty again has neither charge nor percentage."""
    board = BayBoard([empty_bay(DOCK, ONE, lambda: NOW)])
    board.show_charging(ONE, Charging.CHARGING, 40)
    board.show_charging(ONE, None, None)

    assert (board.bay(ONE).charging, board.bay(ONE).battery_percent) == (None, None)
