"""Making room: staged copies whose receipts were verified are removed, and nothing else is."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.ingest.files import FileId

_AT_ONCE: Final = 100

_log = structlog.get_logger(__name__)


class RemovableCopies(Protocol):
    """Where the staged copies are."""

    def remove(self, file_id: FileId) -> None:
        """Free a sealed copy, durably; harmless if there is none."""


class Freeing:
    """Removes copies that nobody needs; `run` is its only task."""

    def __init__(
        self,
        store: OutboxStore,
        copies: RemovableCopies,
        receipts: Pulse,
        *,
        on_freed: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts.

        Args:
            store: Says what nobody needs.
            copies: Where it is.
            receipts: Beats after each receipt that was committed.
            on_freed: Called when there is more room.
        """
        self._store = store
        self._copies = copies
        self._receipts = receipts
        self._on_freed = on_freed

    async def run(self) -> None:
        """Free what may be freed, at once and after each receipt, until cancelled.

        The copy goes first and its row second: a crash in between leaves a row whose copy is
        removed once more, never a copy without a row.

        Raises:
            OSError, sqlite3.Error: Our own disk or the journal failed.
        """
        while True:
            receipts = self._receipts.beats
            while file_ids := await self._store.freeable_files(limit=_AT_ONCE):
                for file_id in file_ids:
                    await asyncio.to_thread(self._copies.remove, file_id)
                    await self._store.mark_freed(file_id)
                _log.info("staged copies freed", files=len(file_ids))
                self._on_freed()
            await self._receipts.beyond(receipts)
