"""What edge-guard says, as edge-agent hears it: a dock without its word is not known to be kept."""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.notice_store import Notice, NoticeStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.vitals import Vitals
from edge_agent.errors import GuardError
from edge_agent.guard.messages import (
    MAX_WORD_BYTES,
    ToldBreach,
    ToldDoor,
    ToldOpening,
    ToldUsb,
    Word,
    parse,
)
from protocol.errors import ProtocolError
from protocol.identifiers import BayNumber
from protocol.manifest import Isolation

# The rule was broken, and is not any more.
RESTORED: Final = "E-ISO-110"
# A guard is configured and says nothing.
SILENT: Final = "E-ISO-111"
# A USB device was refused.
REFUSED: Final = "E-ISO-121"
# A technician has opened a USB port for a while.
OPENED: Final = "E-ISO-124"

_AGAIN_S: Final = 1.0
_PATIENCE_S: Final = 10.0
# As many as may be signed at once.
_MOST_UNSIGNED: Final = 60

_log = structlog.get_logger(__name__)


class Unsigned:
    """What the guard said at each change, until an attestation tells it; bounded.

    Attributes:
        changes: Beats at each.
        left_out: How many are told by no attestation; the next one counts them.
    """

    def __init__(self) -> None:
        self.changes = Pulse()
        self.left_out = 0
        self._words: deque[Word | None] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._words)

    def add(self, word: Word | None) -> None:
        """Have it told; of too many the first is left out."""
        self._words.append(word)
        if len(self._words) > _MOST_UNSIGNED:
            self._words.popleft()
            self.left_out += 1
        self.changes.beat()

    def leave_out(self) -> None:
        """Keep the last one alone."""
        while len(self._words) > 1:
            self._words.popleft()
            self.left_out += 1

    def take(self) -> Word | None:
        """Return the first one, which is told now; there is one."""
        return self._words.popleft()


def _standing(word: Word | None) -> tuple[object, ...]:
    """Return what is another one at each change that is to be signed."""
    if word is None:
        return ()
    counted = word.counted
    return word.isolation, word.enforced, word.table_sha256, counted.run, counted.changes


class Isolated:
    """How the dock stands with the rule, for all who must know.

    Attributes:
        changes: Beats whenever it stands otherwise.
        word: The guard's last word; None if it is not heard.
        unsigned: Its words that no attestation tells yet.
    """

    def __init__(self, isolation: Isolation = Isolation.NOT_ENFORCED) -> None:
        self.isolation = isolation
        self.word: Word | None = None
        self.unsigned = Unsigned()
        self.changes = Pulse()
        self._vitals: Vitals | None = None

    @property
    def may_talk(self) -> bool:
        """Whether anything may be sent: not while the rule is broken."""
        return self.isolation is not Isolation.BREACHED

    def hear(self, word: Word | None) -> None:
        """Take what the guard says; None when it is not heard any more."""
        before, self.word = self.word, word
        if _standing(word) != _standing(before):
            self.unsigned.add(word)
        self.become(Isolation.NOT_ENFORCED if word is None else word.isolation)

    def become(self, isolation: Isolation) -> None:
        """Note how it stands now."""
        if isolation is not self.isolation:
            _log.warning("isolation", state=isolation.value)
            self.isolation = isolation
            if self._vitals is not None:
                self._vitals.isolation = isolation
                self._vitals.touched.set()
            self.changes.beat()

    def shows_at(self, vitals: Vitals) -> None:
        """Have the dock's status tell it from here on."""
        self._vitals = vitals
        vitals.isolation = self.isolation

    async def while_kept(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run something that talks, and end it whenever the rule is broken; begin it anew after."""
        while True:
            beats = self.changes.beats
            if not self.may_talk:
                await self.changes.beyond(beats)
                continue
            running = asyncio.ensure_future(run())
            broken = asyncio.ensure_future(self._broken())
            try:
                await asyncio.wait({running, broken}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    return running.result()
            finally:
                for task in (running, broken):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    async def _broken(self) -> None:
        while self.may_talk:
            await self.changes.beyond(self.changes.beats)


class GuardLink:
    """Listens to edge-guard; `run` is its only task."""

    def __init__(self, path: Path, isolated: Isolated, notices: NoticeStore) -> None:
        """*path* is edge-guard's socket."""
        self._path = path
        self._isolated = isolated
        self._notices = notices
        self._told: set[tuple[str, str]] = set()
        self._told_of_door: frozenset[ToldUsb | ToldOpening] = frozenset()
        self._was_heard = True

    async def run(self) -> None:
        """Listen until cancelled. Who does not hear the guard does not know that the rule holds.

        Raises:
            sqlite3.Error: The journal failed.
        """
        while True:
            try:
                await self._listen()
            except (OSError, ProtocolError) as error:
                await self._note_silence(str(error))
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_WORD_BYTES)
        try:
            while line := await reader.readline():
                self._was_heard = True
                await self._take(parse(line.rstrip(b"\n")))
        except ValueError as error:  # longer than any word
            raise OSError(str(error)) from error
        finally:
            writer.close()
        raise OSError("edge-guard has gone")

    async def _take(self, word: Word) -> None:
        before = self._isolated.isolation
        self._isolated.hear(word)
        for breach in word.incident:
            await self._tell(breach)
        if before is Isolation.BREACHED and word.isolation is Isolation.RESTORED:
            kinds = ", ".join(sorted({one.code for one in word.incident}))
            lasted = "" if word.began_at is None else f"; it began at {word.began_at:%H:%M:%S} UTC"
            text = f"the rule holds again ({kinds}){lasted}"
            await self._notices.raise_alert(Notice(code=RESTORED, text=text, facts={}))
        if not word.incident:
            self._told.clear()
        if word.door is not None:
            await self._take_door(word.door)

    async def _take_door(self, door: ToldDoor) -> None:
        """Raise an alert for what was refused or opened; each once, as long as it is told."""
        refused = [one.device for one in door.refused]
        for device in refused:
            if device not in self._told_of_door:
                what = f"the USB device {device.ids} {device.name}"
                text = f"{what} at {device.port} was refused: {device.because}"
                await self._notices.raise_alert(
                    _at_port(REFUSED, text, device.port, bay=device.bay)
                )
        for opening in door.open_ports:
            if opening not in self._told_of_door:
                until = f"{opening.until:%H:%M:%S} UTC"
                text = f"USB port {opening.port} was opened until {until} by {opening.by}"
                await self._notices.raise_alert(_at_port(OPENED, text, opening.port))
        self._told_of_door = frozenset((*refused, *door.open_ports))

    async def _tell(self, breach: ToldBreach) -> None:
        """Raise an alert; each breach once, until the rule has held for a while."""
        if (breach.code, breach.subject) in self._told:
            return
        self._told.add((breach.code, breach.subject))
        facts = {"subject": breach.subject[:128]}
        await self._notices.raise_alert(Notice(code=breach.code, text=breach.text, facts=facts))

    async def _note_silence(self, reason: str) -> None:
        self._isolated.hear(None)
        if self._was_heard:
            self._was_heard = False
            text = f"edge-guard is not heard: {reason}"
            await self._notices.raise_alert(Notice(code=SILENT, text=text, facts={}))


def _at_port(code: str, text: str, port: str, *, bay: int | None = None) -> Notice:
    number = None if bay is None else BayNumber(bay)
    return Notice(code=code, text=text, facts={"subject": port}, bay=number)


def read_word(path: Path) -> Word:
    """Return what edge-guard says now; blocking.

    Raises:
        GuardError: It does not run, or says what is no word.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_PATIENCE_S)
            line.connect(str(path))
            with line.makefile("rb") as file:
                return parse(file.readline(MAX_WORD_BYTES + 1).rstrip(b"\n"))
    except (OSError, ProtocolError) as error:
        raise GuardError(f"{path}: {error}: is edge-guard running?") from error
