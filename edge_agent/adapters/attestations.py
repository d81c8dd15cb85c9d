"""The dock's attestations: made when something is to be said, and kept for good, numbered."""

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.guard_link import Isolated
from edge_agent.adapters.vitals import AGENT
from edge_agent.config import EdgeConfig
from edge_agent.errors import AttestationsError
from edge_agent.guard.attesting import NOTHING_YET, Budget, attest
from edge_agent.guard.messages import Word
from protocol.attestation import Attestation, Counted, Occasion
from protocol.chain import GENESIS, ChainHead
from protocol.digest import sha256_hex
from protocol.envelope import keyring, parse_statement, sign_statement, take_apart
from protocol.errors import ProtocolError
from protocol.identifiers import DockId
from protocol.keys import KeyId, SigningKey, VerifyingKey
from protocol.versions import Statement
from runtime.durable import make_directories, write_file
from runtime.keys import load_signing_key

_DAY_S: Final = 24 * 3600.0
# A guard that has just begun has a moment to say how it stands.
_FIRST_S: Final = 20.0
_BUDGET: Final = Budget()
_NAME: Final = re.compile(r"([0-9]{8})\.dsse\.json")
_TABLES: Final = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")

_log = structlog.get_logger(__name__)


def attestations_folder(config: EdgeConfig) -> Path:
    """Return where a dock's attestations are kept."""
    return config.storage.journal.parent / "attestations"


class AttestationFolder:
    """One folder; a file is called by its number. Every call blocks.

    No file is ever written over: of two that would follow on the same one, the second fails.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made when there is something to keep."""
        self._folder = folder
        self._keys = folder / "keys"

    def head(self) -> tuple[ChainHead, Counted]:
        """Return the last attestation, and how far the guard had counted in it.

        Raises:
            AttestationsError: It cannot be read, or one before it is missing.
            OSError: Our disk failed.
        """
        numbers = [number for number, _ in self.files()]
        if not numbers:
            return GENESIS, NOTHING_YET
        if numbers != list(range(1, len(numbers) + 1)):
            raise AttestationsError(f"{self._folder}: numbers are missing before {numbers[-1]}")
        path = self._path(numbers[-1])
        try:
            sealed = take_apart(path.read_bytes())
            last = parse_statement(sealed, Statement.ATTESTATION, Attestation)
        except ProtocolError as error:
            raise AttestationsError(f"{path}: {error}") from error
        head = ChainHead(sequence=numbers[-1], payload_sha256=sha256_hex(sealed.payload))
        return head, last.counted

    def remember(self, key: VerifyingKey) -> None:
        """Keep a key that signs from here on, durably; it is kept when another one does.

        Raises:
            OSError: Our disk failed.
        """
        path = self._keys / f"{key.key_id.partition(':')[2]}.der"
        if not path.exists():
            make_directories(self._keys)
            write_file(path, key.spki_der)

    def keys(self) -> dict[KeyId, VerifyingKey]:
        """Return all that signed here, by their ids.

        Raises:
            KeyFormatError: A file holds none.
            OSError: One cannot be read.
        """
        files = sorted(self._keys.glob("*.der")) if self._keys.is_dir() else []
        return dict(keyring(*(VerifyingKey.from_spki_der(path.read_bytes()) for path in files)))

    def files(self) -> list[tuple[int, Path]]:
        """Return all, by number."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []  # noqa: PTH208 - names
        found = ((_NAME.fullmatch(name), name) for name in names)
        return sorted((int(match[1]), self._folder / name) for match, name in found if match)

    def add(self, envelope: bytes, *, sequence: int) -> Path:
        """Keep one durably.

        Raises:
            FileExistsError: There is one of that number.
            OSError: Our disk failed.
        """
        make_directories(self._folder)
        path = self._path(sequence)
        write_file(path, envelope)
        return path

    def _path(self, sequence: int) -> Path:
        return self._folder / f"{sequence:08d}.dsse.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """One attestation, and the envelope of its exact bytes."""

    attestation: Attestation
    envelope: bytes
    path: Path


class Attester:
    """Makes attestations: at the start, each day, at each change, and when it is asked to."""

    def __init__(
        self,
        folder: AttestationFolder,
        isolated: Isolated,
        *,
        dock: DockId,
        agent: str,
        key: SigningKey,
        clock: Callable[[], datetime],
        sockets: Callable[[], list[str]] | None = None,
    ) -> None:
        """*sockets* tells those that are on any address but loopback; /proc/net by default."""
        self._folder = folder
        self._isolated = isolated
        self._dock = dock
        self._agent = agent
        self._key = key
        self._clock = clock
        self._sockets = sockets or open_sockets
        self._alone = asyncio.Lock()

    async def run(
        self,
        *,
        first_s: float = _FIRST_S,
        budget: Budget = _BUDGET,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Attest until cancelled: each change by itself, as long as the budget allows it.

        Raises:
            AttestationsError: What is kept cannot be gone on with.
            OSError: Our disk failed.
        """
        now_s = asyncio.get_running_loop().time
        unsigned = self._isolated.unsigned
        if self._isolated.word is None:
            await self._is_changed(first_s)
        await self.attest(Occasion.STARTED)
        while True:
            if not await self._is_changed(_DAY_S):
                await self.attest(Occasion.DAILY)
            elif (wait_s := budget.wait_s(now_s())) > 0:
                await wait(wait_s)
                unsigned.leave_out()
            else:
                await self.attest(Occasion.CHANGED)
                budget = budget.spent(now_s())

    async def attest(self, occasion: Occasion) -> Signed:
        """Make one now, and keep it; OSError and AttestationsError as in `run`."""
        async with self._alone:
            word, left_out = self._what_to_tell(occasion)
            signed = await asyncio.to_thread(self._attest, occasion, word, left_out)
        _log.info(
            "attestation",
            number=signed.attestation.sequence,
            isolation=signed.attestation.isolation.value,
            occasion=occasion.value,
        )
        return signed

    def _what_to_tell(self, occasion: Occasion) -> tuple[Word | None, int]:
        """Return the word that is told, and how many before it are not."""
        unsigned, word = self._isolated.unsigned, self._isolated.word
        if occasion is not Occasion.CHANGED:
            # How it stands now; that is what waits last, if anything does.
            unsigned.leave_out()
        if unsigned:
            taken = unsigned.take()
            word = taken if occasion is Occasion.CHANGED else word
        left_out, unsigned.left_out = unsigned.left_out, 0
        return word, left_out

    async def _is_changed(self, patience_s: float) -> bool:
        """Return whether a word waits, now or within a while."""
        unsigned = self._isolated.unsigned
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not unsigned:
                    await unsigned.changes.beyond(unsigned.changes.beats)
        return bool(unsigned)

    def _attest(self, occasion: Occasion, word: Word | None, left_out: int) -> Signed:
        head, before = self._folder.head()
        attestation = attest(
            head,
            word,
            dock=self._dock,
            agent=self._agent,
            occasion=occasion,
            sockets=self._sockets(),
            now=self._clock(),
            before=before,
            left_out=left_out,
        )
        self._folder.remember(self._key.public)
        envelope = sign_statement(attestation, Statement.ATTESTATION, self._key)
        path = self._folder.add(envelope, sequence=attestation.sequence)
        return Signed(attestation=attestation, envelope=envelope, path=path)


def make_attester(
    config: EdgeConfig, isolated: Isolated, *, dock: DockId, clock: Callable[[], datetime]
) -> Attester | None:
    """Return what makes a dock's attestations; None where no guard is configured."""
    if config.guard is None:
        return None
    return Attester(
        AttestationFolder(attestations_folder(config)),
        isolated,
        dock=dock,
        agent=AGENT,
        key=load_signing_key(config.signing.key),
        clock=clock,
    )


def open_sockets(proc: Path = Path("/proc/net")) -> list[str]:
    """Return the sockets of this machine that are not on loopback alone, as the kernel tells."""
    return sorted(line for table in _TABLES for line in _sockets_of(proc / table))


def _sockets_of(table: Path) -> Iterator[str]:
    try:
        lines = table.read_text("ascii", errors="replace").splitlines()[1:]
    except OSError:
        return  # a kernel without IPv6 has no such tables
    for line in lines:
        words = line.split()
        if len(words) > 3 and not _is_loopback(words[1]):  # noqa: PLR2004 - number, ends, state
            yield f"{table.name} {words[1]} {words[2]} {words[3]}"[:300]


def _is_loopback(end: str) -> bool:
    # proc_net_tcp(5): an address is four-byte words in the machine's own order.
    address = end.partition(":")[0]
    v4_in_6 = "0000000000000000FFFF0000"
    return (
        address == "00000000000000000000000001000000"
        or (len(address) == 8 and address.endswith("7F"))  # noqa: PLR2004 - an IPv4 address
        or (address.startswith(v4_in_6) and address.endswith("7F"))
    )
