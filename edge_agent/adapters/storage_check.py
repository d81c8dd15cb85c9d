"""Whether journal and staging belong together, and what is to be done with copies of nobody.

Both hold the same random number: the journal as SQLite's ``application_id``, staging as a file.
"""

import asyncio
import secrets
from typing import Final

import structlog

from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import Notice, NoticeStore, count
from edge_agent.adapters.salvage_disk import SalvageDisk
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.errors import ForeignStagingError

# Sealed copies that no journal row names were put aside.
COPIES_ORPHANED: Final = "E-STG-304"

_HIGHEST_ID: Final = 2**31 - 1  # PRAGMA application_id is a signed 32-bit number, 0 unless set

_log = structlog.get_logger(__name__)


async def pair_storage(journal: Journal, staging: StagingDisk) -> None:
    """Return if the copies in staging are those that this journal is about, or there are none.

    Raises:
        ForeignStagingError: There are copies, and the journal is new or that of another staging.
        OSError, sqlite3.Error: Our own disk or the journal failed.
    """
    async with journal.transaction() as connection:
        number = await count(connection, "SELECT application_id FROM pragma_application_id")
        dockings = await count(connection, "SELECT count(*) FROM docking")
    paired = await asyncio.to_thread(staging.journal_number)
    if number and paired == number:
        return
    copies = await asyncio.to_thread(staging.sealed_count)
    if copies and (paired is not None or not dockings):
        raise ForeignStagingError(f"{copies} copies in staging are not those of this journal")
    if not number:
        number = 1 + secrets.randbelow(_HIGHEST_ID)
        async with journal.transaction() as connection:
            await connection.execute(f"PRAGMA application_id = {number}")
    await asyncio.to_thread(staging.belong_to, number)


async def clear_staging(
    journal: Journal, staging: StagingDisk, salvaging: SalvageDisk, notices: NoticeStore
) -> None:
    """Clear away what no journal row names, before anything is copied.

    Sealed copies and parts of files that were put aside raise an alert.

    Raises:
        OSError, sqlite3.Error: Our own disk or the journal failed.
    """
    known = await journal.staging_files()
    with_parts = await journal.salvaged_files()
    swept = await asyncio.to_thread(staging.sweep, known)
    cleared, aside = await asyncio.to_thread(salvaging.sweep, with_parts, known)
    for path in (*swept, *cleared, *aside):
        _log.warning("a copy that no journal row names was cleared away", path=path)
    orphans = sum(path.startswith("files/") for path in swept) + len(aside)
    if orphans:
        text = f"{orphans} copies that the journal does not know were put aside"
        await notices.raise_alert(
            Notice(code=COPIES_ORPHANED, text=text, facts={"copies": str(orphans)})
        )
