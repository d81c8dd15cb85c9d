"""What a dock does for each command of the archive."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edge_agent.adapters.attestations import Attester
from edge_agent.adapters.bay_lights import BayLights
from edge_agent.adapters.bay_supervisor import BaySupervisor
from edge_agent.adapters.check_up import CheckUp
from edge_agent.adapters.command_desk import Act, CannotError, CommandDesk
from edge_agent.adapters.recorder_logs import RecorderLogs
from edge_agent.errors import AttestationsError
from protocol.attestation import Occasion
from protocol.commands import MAX_CONTENT_CHARACTERS, Command, CommandVerb
from runtime.logs import recent_lines

_IDENTIFY_S: Final = 30
# The answer should be told before the connection goes.
_TELL_S: Final = 5.0


def _readable(untrusted: bytes) -> str:
    """Return a text in whichever of the two encodings of Chinese recorders it is."""
    try:
        return untrusted.decode()
    except UnicodeDecodeError:
        return untrusted.decode("gb18030", errors="replace")


class Acts:
    """All that a dock can be asked to do."""

    def __init__(
        self,
        desk: CommandDesk,
        bays: Sequence[BaySupervisor],
        *,
        lights: BayLights,
        check_up: CheckUp,
        logs: RecorderLogs,
        attester: Attester | None,
        restart: Callable[[], None],
    ) -> None:
        """Take what is needed.

        Args:
            desk: Where the answers go.
            bays: All of the dock's; may still be filled.
            lights: For IDENTIFY.
            check_up: For DOCTOR.
            logs: Of recorders, for COLLECT_LOGS of one bay.
            attester: For ATTEST; None where no guard is configured.
            restart: Ends the program in good order; whoever started it starts it again.
        """
        self._desk = desk
        self._bays = bays
        self._lights = lights
        self._check_up = check_up
        self._logs = logs
        self._attester = attester
        self._restart = restart
        self._restarting: asyncio.Task[None] | None = None

    def by_verb(self) -> Mapping[CommandVerb, Act]:
        """Return what is done for each verb."""
        return {
            CommandVerb.RESCAN: self._rescan,
            CommandVerb.IDENTIFY: self._identify,
            CommandVerb.COLLECT_LOGS: self._collect_logs,
            CommandVerb.DOCTOR: self._doctor,
            CommandVerb.ATTEST: self._attest,
            CommandVerb.RESTART: self._restart_soon,
        }

    async def _rescan(self, command: Command) -> str:
        asked = [bay for bay in self._bays if command.bay in {None, bay.number}]
        tried = [str(bay.number) for bay in asked if bay.rescan()]
        if command.bay is not None and not tried:
            raise CannotError(f"bay {command.bay} holds no recorder that could not be read")
        return f"tried again: {', '.join(tried) or 'none needs it'}"

    async def _identify(self, command: Command) -> str:
        if command.bay is None or not self._lights.are_any:
            raise CannotError("this dock has no lights")
        seconds = command.seconds or _IDENTIFY_S
        self._lights.identify(command.bay, seconds)
        return f"for {seconds} s"

    async def _collect_logs(self, command: Command) -> str:
        """Return the end of our own log, or of what the recorder in a bay logged last."""
        if command.bay is None:
            return recent_lines()
        path = await asyncio.to_thread(self._logs.newest, command.bay)
        if path is None:
            raise CannotError(f"no recorder in bay {command.bay} was asked for its log")
        content = await asyncio.to_thread(path.read_bytes)
        return f"{path.name}\n{_readable(content)}"

    async def _doctor(self, _command: Command) -> str:
        report = await self._check_up.examine()
        return "\n".join(
            f"{one.health.value} {one.subject}: {one.seen}"
            + (f" -> {one.remedy}" if one.remedy else "")
            for one in report.examined
        )

    async def _attest(self, _command: Command) -> str:
        """Return the envelope, so that who asked can check it with stock tools."""
        if self._attester is None:
            raise CannotError("this dock has no edge-guard: there is nothing to attest")
        try:
            signed = await self._attester.attest(Occasion.ASKED)
        except AttestationsError as error:
            raise CannotError(f"{error.code}: {error}") from error
        text = signed.envelope.decode("ascii")
        if len(text) > MAX_CONTENT_CHARACTERS:
            return f"{signed.path}: {len(text)} bytes are too many for an answer: read it there"
        return text

    async def _restart_soon(self, _command: Command) -> str:
        self._restarting = asyncio.create_task(self._restart_when_told(), name="restart")
        return "it stops now and is started again"

    async def _restart_when_told(self) -> None:
        await asyncio.sleep(0)  # the answer to this very command is given first
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TELL_S):
                await self._desk.all_told()
        self._restart()
