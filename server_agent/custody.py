"""The custody log as it grows: entries of committed events, tiles, checkpoint, and only then word.

An event and its entry are one transaction. What follows can be done again after a stop at any step:

1. the files that the new entries make are written, durably;
2. the checkpoint over them is signed, and kept in the catalogue;
3. it becomes the log's checkpoint;
4. the receipts that it covers may be sent.

Before a run goes on with a log it looks whether that is the one that was signed.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Final

import structlog

from protocol.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from protocol.errors import ProtocolError, UnknownKeyError
from protocol.keys import KeyId
from protocol.merkle import leaf_hash, root
from protocol.tiles import Edge
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.custody_records import (
    count_entries,
    load_entries,
    load_signed,
    record_signed,
    take_back_entries,
)
from server_agent.adapters.log_files import LogFiles
from server_agent.adapters.upload_slots import in_thread
from server_agent.alarms import Alarms
from server_agent.errors import LogChangedError, LogKeyError
from server_agent.ledger.log_check import LogReader, check_beginning, check_log
from server_agent.signing import Answer, Signer
from server_agent.watchers import Watchers

# Entries under one checkpoint: some MiB, and a moment's hashing.
_TOGETHER: Final = 4_096
# What is committed within such a time and waits for no receipt shares a checkpoint.
_PAUSE_S: Final = 0.2
# The catalogue was older than the log.
_SET_BACK: Final = "E-LOG-102"

_log = structlog.get_logger(__name__)


class CustodyLog:
    """Puts committed entries under signed checkpoints.

    Attributes:
        watchers: Those whom receipts are proved to.
    """

    def __init__(
        self, store: CatalogueStore, files: LogFiles, *, signer: Signer, alarms: Alarms
    ) -> None:
        """Take up the log in *files*, or begin one.

        Args:
            store: The catalogue, which has the entries.
            files: The log's folder.
            signer: Its key signs checkpoints.
            alarms: Told why the log cannot go on.
        """
        self.watchers = Watchers(store, files, signer=signer, alarms=alarms)
        self._store = store
        self._files = files
        self._signer = signer
        self._alarms = alarms
        self._turn = asyncio.Lock()
        self._grown = asyncio.Event()
        self._origin = ""
        # None: what is on the disk has to be looked at before the log goes on.
        self._edge: Edge | None = None

    async def run(self) -> None:
        """Seal what is committed, until cancelled."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            await self.try_seal()
            await asyncio.sleep(_PAUSE_S)

    def tell(self) -> None:
        """Say that entries may have been committed."""
        self._grown.set()

    async def covered(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return those of *answers* that may be sent now, receipts with what proves them.

        What needs a checkpoint may when all that was committed before is under one; if that cannot
        be, there is an alarm, and docks ask again.
        """
        self.tell()
        if not any(one.needs_checkpoint for one in answers):
            return list(answers)
        sent = [one for one in answers if not one.needs_checkpoint]
        async with self._alarms.outliving("prove receipts"):
            await self.watchers.enter(answers)
            if await self.try_seal():
                sent = await self.watchers.show(answers)
        return sent

    async def try_seal(self) -> bool:
        """Seal; return whether all that was committed before is under the checkpoint now.

        What keeps it from being is an alarm.
        """
        done = False
        async with self._alarms.outliving("go on with the custody log"):
            await self.seal()
            done = True
        return done  # noqa: RET504 - the block outlives what kept it from being done

    async def seal(self) -> None:
        """Put everything that is committed under a signed, durable checkpoint.

        Raises:
            LogError: The log is not the one that was signed, and is not continued.
            sqlalchemy.exc.SQLAlchemyError, OSError: Our catalogue or disk failed.
        """
        async with self._turn:
            edge, self._edge = self._edge, None
            if edge is None:
                edge = await self._take_up()
            async with self._store.reading() as connection:
                committed = await count_entries(connection)
            # What is committed meanwhile is for the next time: somebody waits for this one.
            while edge.size < committed:
                entries = await self._load(edge.size)
                if not entries:
                    raise LogChangedError(f"entry {edge.size} is missing in the catalogue")
                edge = await self._grow(edge, entries)
            self._edge = edge

    async def _load(self, first: int) -> list[bytes]:
        async with self._store.reading() as connection:
            return await load_entries(connection, first=first, limit=_TOGETHER)

    async def _grow(self, edge: Edge, entries: Sequence[bytes]) -> Edge:
        grown, files = await in_thread(partial(edge.extend, entries))
        checkpoint = Checkpoint(
            origin=self._origin, size=grown.size, root=root(grown.size, grown.nodes)
        )
        await in_thread(partial(self._files.write, files))
        note = sign_checkpoint(checkpoint, self._signer.key)
        async with self._store.writing() as connection:
            await record_signed(connection, note)
        await in_thread(partial(self._files.put_checkpoint, note))
        await in_thread(partial(self._files.forget_partials, files))
        return grown

    async def _take_up(self) -> Edge:
        """Return where the log ends, once it was found to be the one that was signed."""
        async with self._store.reading() as connection:
            signed = await load_signed(connection)
            entries = await count_entries(connection)
        await in_thread(self._files.tidy)
        filed = await in_thread(self._files.read_checkpoint)
        if filed is not None and self._is_set_back(signed, filed, entries):
            await self._take_back(signed, filed)
            signed = filed
        if signed is None:
            if await in_thread(partial(self._files.has_more_than, entries)):
                raise LogChangedError("there are tiles of a log, and no checkpoint of it")
            self._origin = _origin(self._signer.key.key_id)
            return Edge()
        checkpoint = self._open(signed)
        if filed is not None:
            await in_thread(partial(self._compare, checkpoint, filed))
        edge = await in_thread(partial(self._read_edge, checkpoint))
        await self._compare_tail(edge)
        if filed != signed:
            # Stopped between steps 2 and 3: what it stands for is there.
            await in_thread(partial(self._files.put_checkpoint, signed))
        self._origin = checkpoint.origin
        _log.info("custody log", entries=checkpoint.size, origin=checkpoint.origin)
        return edge

    def _is_set_back(self, signed: bytes | None, filed: bytes, entries: int) -> bool:
        known = 0 if signed is None else self._open(signed).size
        return min(known, entries) < self._open_filed(filed).size

    async def _take_back(self, signed: bytes | None, filed: bytes) -> None:
        """Enter into a catalogue that is older than the log what it lacks, once all of it is sound.

        Nothing of the log is lost so, and nothing is signed twice: what such a catalogue committed
        since then comes behind it. It is an alarm all the same.

        Raises:
            LogChangedError: The log is not what was signed, or does not go on from the catalogue's.
        """
        found = self._open_filed(filed)
        reader = LogReader(found.size, self._files.read)
        faults = [check_log(found, self._files.read)]
        known = 0
        if signed is not None:
            known = self._open(signed).size
            faults.append(check_beginning(self._open(signed), reader))
        fault = await in_thread(lambda: next(chain.from_iterable(faults), None))
        if fault is not None:
            raise LogChangedError(f"{fault.where}: {fault.what}")
        async with self._store.writing() as connection:
            taken = await take_back_entries(connection, reader.entries, found.size, known=known)
            await record_signed(connection, filed)
        await self._alarms.sound(
            _SET_BACK,
            "The catalogue was older than the custody log; what it lacked was entered from there.",
            {"entries": str(taken), "size": str(found.size)},
        )

    def _open(self, note: bytes) -> Checkpoint:
        try:
            return open_checkpoint(note, self._signer.key.public)
        except UnknownKeyError as error:
            raise LogKeyError(str(error)) from error
        except ProtocolError as error:
            raise LogChangedError(f"the checkpoint: {error}") from error

    def _open_filed(self, note: bytes) -> Checkpoint:
        try:
            return open_checkpoint(note, self._signer.key.public)
        except ProtocolError as error:
            raise LogChangedError(f"the checkpoint: {error}") from error

    def _compare(self, signed: Checkpoint, filed: bytes) -> None:
        """Check that the checkpoint on the disk is the one that was signed last, or one before."""
        try:
            found = open_checkpoint(filed, self._signer.key.public, origin=signed.origin)
        except ProtocolError as error:
            raise LogChangedError(f"the checkpoint: {error}") from error
        for fault in check_beginning(found, LogReader(signed.size, self._files.read)):
            raise LogChangedError(f"{fault.where}: {fault.what}")

    def _read_edge(self, checkpoint: Checkpoint) -> Edge:
        edge = self._files.read_edge(checkpoint.size)
        if root(edge.size, edge.nodes) != checkpoint.root:
            raise LogChangedError("its last tiles are not those that were signed")
        return edge

    async def _compare_tail(self, edge: Edge) -> None:
        """Check that the entries that are in no full bundle yet are the catalogue's, and logged."""
        known = (await self._load(edge.size - len(edge.tail)))[: len(edge.tail)]
        logged = tuple(map(leaf_hash, edge.tail)) == (edge.rows[0] if edge.rows else ())
        if not logged or tuple(known) != edge.tail:
            raise LogChangedError("its last entries are not those that were committed")


def _origin(key_id: KeyId) -> str:
    """Return the name of a log that begins; it keeps it when the archive gets another key."""
    return f"bayward-archive/{key_id.partition(':')[2]}"
