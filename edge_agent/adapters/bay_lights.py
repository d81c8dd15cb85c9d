"""Keeps the bays' lights at what the bays show: lamps of the kernel's LED class, and a charger."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.guard_link import Isolated
from edge_agent.adapters.log_memory import LogMemory
from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.pyserial_port import PyserialPort
from edge_agent.config import EdgeConfig
from edge_agent.drivers.driver import Link
from edge_agent.errors import ChargerFailedError, DriverError, LampFailedError, LightsError
from edge_agent.lights.charger import BAUD, ChargerSession, Slot
from edge_agent.lights.signals import (
    GREEN_ALONE,
    GREEN_AND_RED,
    Shine,
    Signal,
    at_rest,
    is_lit,
    signal_of,
)
from protocol.identifiers import BayNumber

_SESSIONS: Final = 1 << 16
# One that failed is left alone for a while.
_PAUSE_S: Final = 5.0
_QUARTER_S: Final = 0.25
_STEADY_S: Final = 5.0
_CHARGER_S: Final = 1.0

_log = structlog.get_logger(__name__)

Signals = Mapping[BayNumber, Signal]


class Output(Protocol):
    """Something that shows signals.

    Attributes:
        name: For logs.
    """

    name: str

    def pace_s(self, signals: Signals) -> float:
        """Return when it wants to be shown them again, even when nothing changes."""

    def show(self, signals: Signals) -> Mapping[BayNumber, Slot]:
        """Show them; blocking. Return what it knows of what is in the bays.

        Raises:
            LightsError: It could not.
        """

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lamps:
    """One bay's lamps: folders of the LED class; red may be missing."""

    green: Path
    red: Path | None = None


class LedOutput:
    """Lamps of the kernel's LED class (Documentation/leds/leds-class.rst), one or two a bay."""

    name = "lamps"

    def __init__(self, lamps: Mapping[BayNumber, Lamps], monotonic_s: Callable[[], float]) -> None:
        self._lamps = lamps
        self._monotonic_s = monotonic_s
        self._lit: dict[Path, bool] = {}

    def pace_s(self, signals: Signals) -> float:
        """Often while anything blinks."""
        blinks = (
            shine > 0
            for bay, lamps in self._lamps.items()
            for _, shine in self._shines(lamps, signals[bay])
        )
        return _QUARTER_S if any(blinks) else _STEADY_S

    def show(self, signals: Signals) -> Mapping[BayNumber, Slot]:
        """Show them as they are in this quarter of a second."""
        quarter = int(self._monotonic_s() / _QUARTER_S)
        for bay, lamps in self._lamps.items():
            for lamp, shine in self._shines(lamps, signals[bay]):
                self._burn(lamp, lit=is_lit(shine, quarter))
        return {}

    def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _shines(lamps: Lamps, signal: Signal) -> Sequence[tuple[Path, Shine]]:
        if lamps.red is None:
            return ((lamps.green, GREEN_ALONE[signal]),)
        green, red = GREEN_AND_RED[signal]
        return ((lamps.green, green), (lamps.red, red))

    def _burn(self, lamp: Path, *, lit: bool) -> None:
        if self._lit.get(lamp) is lit:
            return
        try:
            if lamp not in self._lit:
                # Whatever blinked it until now, such as a disk's activity, lets go of it.
                (lamp / "trigger").write_text("none")
            (lamp / "brightness").write_text(self._brightest(lamp) if lit else "0")
        except OSError as error:
            self._lit.pop(lamp, None)
            raise LampFailedError(f"{lamp.name}: {error.strerror or error}") from error
        self._lit[lamp] = lit

    @staticmethod
    def _brightest(lamp: Path) -> str:
        return (lamp / "max_brightness").read_text().strip()


class ChargerOutput:
    """A charger's controller at a serial port; opened when it is needed, again after each fault."""

    name = "charger"

    def __init__(self, device: Path, monotonic_s: Callable[[], float]) -> None:
        self._device = device
        self._monotonic_s = monotonic_s
        self._sessions = 0
        self._held: contextlib.ExitStack | None = None
        self._session: ChargerSession | None = None

    def pace_s(self, signals: Signals) -> float:  # noqa: ARG002 - Output's signature
        """Often enough that a controller never believes itself alone."""
        return _CHARGER_S

    def show(self, signals: Signals) -> Mapping[BayNumber, Slot]:
        """Show them; a slot is the bay of its number."""
        try:
            session = self._session or self._open()
            in_order = [
                signals.get(BayNumber(number), Signal.EMPTY)
                for number in range(1, max(signals) + 1)
            ]
            slots = session.show(in_order)
        except DriverError as error:
            self.close()
            raise ChargerFailedError(f"{self._device}: {error.code}: {error}") from error
        return {BayNumber(number): slot for number, slot in enumerate(slots, start=1)}

    def close(self) -> None:
        """Let go of the port."""
        if self._held is not None:
            self._held.close()
        self._held = self._session = None

    def _open(self) -> ChargerSession:
        held = contextlib.ExitStack()
        port = held.enter_context(PyserialPort.open(self._device, baud=BAUD))
        self._held = held
        self._sessions = (self._sessions + 1) % _SESSIONS
        link = Link(port=port, monotonic_s=self._monotonic_s, session_number=self._sessions)
        self._session = ChargerSession(link)
        return self._session


class BayLights:
    """Shows what the board shows, on every output, each by itself.

    Attributes:
        problems: Of the outputs that fail now, by name: code and words.
    """

    def __init__(
        self,
        board: BayBoard,
        outputs: Sequence[Output],
        notices: NoticeStore,
        isolated: Isolated,
        log: LogMemory | None = None,
    ) -> None:
        self.problems: dict[str, str] = {}
        self._board = board
        self._isolated = isolated
        self._log = log
        self._outputs = outputs
        self._notices = notices
        self._sought: dict[BayNumber, float] = {}
        # A look that was cancelled may still be at its port.
        self._locks = {output.name: threading.Lock() for output in outputs}

    @property
    def are_any(self) -> bool:
        """Whether the dock has lights at all."""
        return bool(self._outputs)

    def identify(self, bay: BayNumber, seconds: float) -> None:
        """Make a bay's light show which one it is, for some time."""
        self._sought[bay] = time.monotonic() + seconds
        self._board.turns.beat()

    async def run(self) -> None:
        """Keep all lights right until cancelled, and leave none that says "safe"."""
        async with asyncio.TaskGroup() as group:
            for output in self._outputs:
                group.create_task(self._keep(output), name=output.name)
            group.create_task(self._follow(self._isolated.changes), name="isolation")
            if self._log is not None:
                group.create_task(self._follow(self._log.changes), name="log")

    async def _keep(self, output: Output) -> None:
        try:
            while True:
                turns = self._board.turns.beats
                shown = await self._show(output)
                pause_s = output.pace_s(self._signals()) if shown else _PAUSE_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._changed(output, turns)
        finally:
            # Nobody is left to say otherwise when the next recorder comes.
            await asyncio.shield(asyncio.to_thread(self._rest, output))

    async def _follow(self, changes: Pulse) -> None:
        """Have everything shown again whenever the dock as a whole stands otherwise."""
        while True:
            await changes.beyond(changes.beats)
            self._board.turns.beat()

    async def _changed(self, output: Output, turns: int) -> None:
        """Return when there is something else to show; one that fails waits for its time."""
        if output.name in self.problems:
            await asyncio.Event().wait()
        await self._board.turns.beyond(turns)

    async def _show(self, output: Output) -> bool:
        try:
            slots = await asyncio.to_thread(self._show_now, output, self._signals())
        except LightsError as error:
            await self._note(output, error)
            return False
        if self.problems.pop(output.name, None) is not None:
            _log.info("lights are well again", output=output.name)
        for bay, slot in slots.items():
            self._board.show_charging(bay, slot.charging, slot.percent)
        return True

    async def _note(self, output: Output, error: LightsError) -> None:
        """Say it once, however long it lasts."""
        first = output.name not in self.problems
        self.problems[output.name] = f"{error.code}: {error}"
        if first:
            _log.error("lights fail", output=output.name, code=error.code, detail=str(error))
            facts = {"reason": str(error)}
            await self._notices.raise_alert(Notice(code=error.code, text=str(error), facts=facts))

    def _show_now(self, output: Output, signals: Signals) -> Mapping[BayNumber, Slot]:
        with self._locks[output.name]:
            return output.show(signals)

    def _rest(self, output: Output) -> None:
        resting = {bay: at_rest(signal) for bay, signal in self._signals().items()}
        with contextlib.suppress(LightsError):
            self._show_now(output, resting)
        output.close()

    def _signals(self) -> Signals:
        now_s = time.monotonic()
        is_well = self._isolated.may_talk and (self._log is None or self._log.is_sound)
        return {
            one.bay: Signal.IDENTIFY
            if self._sought.get(one.bay, 0) > now_s
            else signal_of(one, is_well=is_well)
            for one in self._board.bays()
        }


def light_outputs(config: EdgeConfig, monotonic_s: Callable[[], float]) -> tuple[Output, ...]:
    """Return what a dock has to show signals with, as it is configured."""
    folder, outputs = config.lights.lamps, list[Output]()
    lamps = {
        bay.number: Lamps(
            green=folder / bay.green_lamp,
            red=None if bay.red_lamp is None else folder / bay.red_lamp,
        )
        for bay in config.bays
        if bay.green_lamp is not None
    }
    if lamps:
        outputs.append(LedOutput(lamps, monotonic_s))
    if config.lights.charger is not None:
        outputs.append(ChargerOutput(config.lights.charger, monotonic_s))
    return tuple(outputs)
