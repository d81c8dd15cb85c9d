"""A dock as far as the archive knows it: journal, outbox, uploads and uplink, for real."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_agent.adapters.bay_board import BayBoard
from edge_agent.adapters.bay_face import empty_bay
from edge_agent.adapters.command_desk import CommandDesk
from edge_agent.adapters.journal import Journal
from edge_agent.adapters.notice_store import NoticeStore
from edge_agent.adapters.outbox_store import OutboxStore
from edge_agent.adapters.pulse import Pulse
from edge_agent.adapters.registry_book import RegistryBook
from edge_agent.adapters.staging_disk import StagingDisk
from edge_agent.adapters.telemetry import TelemetryPace
from edge_agent.adapters.tus_client import UploadLimits, open_tus_client
from edge_agent.adapters.uplink import Uplink, UplinkPace, UplinkParts
from edge_agent.adapters.upload_queue import QueueLimits, UploadQueue
from edge_agent.adapters.vitals import Vitals
from protocol.envelope import keyring
from protocol.identifiers import BayNumber
from runtime.link import LinkSettings
from runtime.tls import client_context
from tests.simulators.certificates import Authority
from tests.simulators.sealed_dockings import DockingMaker
from tests.simulators.sealed_manifests import ARCHIVE_KEY, DOCK, DOCK_KEY
from tests.simulators.tus_archive import TusArchive

BAY: Final = BayNumber(1)
PACE: Final = UplinkPace(
    reconcile_s=0.2,
    first_wait_s=0.01,
    longest_wait_s=0.1,
    telemetry=TelemetryPace(bay_s=0.05, metrics_s=0.2, alerts_s=0.2),
)


@dataclass(slots=True)
class Dock:
    """A dock's journal, outbox and uplink; the uplink runs while `online`."""

    journal: Journal
    dockings: DockingMaker
    store: OutboxStore
    notices: NoticeStore
    board: BayBoard
    vitals: Vitals
    registry: RegistryBook
    receipts: Pulse
    commands: CommandDesk
    uploads: UploadQueue
    uplink: Uplink

    @contextlib.asynccontextmanager
    async def online(self) -> AsyncIterator[None]:
        tasks = {
            asyncio.create_task(self.uplink.run(), name="uplink"),
            asyncio.create_task(self.uploads.run(), name="uploads"),
        }
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            done, _ = await asyncio.wait(tasks)
            for task in done:
                if not task.cancelled():
                    task.result()

    async def until_connected(self) -> None:
        while self.vitals.connected_since is None:  # noqa: ASYNC110 -- nobody tells when it is
            await asyncio.sleep(0.01)

    async def seal(self, *parts: list[list[bytes]]) -> None:
        await self.dockings.seal(*parts)
        self.uplink.manifest_sealed()

    async def until_receipted(self, *sequences: int) -> None:
        """Return when the journal has the receipts of these manifests."""
        wanted = [self.dockings.sealed[one].manifest.manifest_id for one in sequences]
        while True:
            beats = self.receipts.beats
            if await self.store.are_receipted(wanted):
                return
            await self.receipts.beyond(beats)


def command_desk(
    journal: Journal, notices: NoticeStore, clock: Callable[[], datetime]
) -> CommandDesk:
    return CommandDesk(
        journal,
        notices,
        dock=DOCK,
        bays=frozenset({BAY}),
        archive_keys=keyring(ARCHIVE_KEY.public),
        clock=clock,
    )


@contextlib.asynccontextmanager
async def open_dock(
    tmp_path: Path,
    authority: Authority,
    port: int,
    archive: TusArchive,
    pace: UplinkPace = PACE,
) -> AsyncIterator[Dock]:
    pair = authority.issue_tls(DOCK)
    tls = client_context(ca=authority.ca, certificate=pair.certificate, key=pair.key)
    staging = StagingDisk(tmp_path / "staging")
    limits = UploadLimits(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)

    def clock() -> datetime:
        return datetime.now(UTC)

    async with (
        Journal.open(tmp_path / "journal.sqlite") as journal,
        open_tus_client(archive.url, None, limits=limits) as client,
    ):
        notices = NoticeStore(journal, dock=DOCK, clock=clock)
        keys = keyring(ARCHIVE_KEY.public)
        store = OutboxStore(journal, notices, dock=DOCK, archive_keys=keys, clock=clock)
        vitals = Vitals(dock=DOCK, bays=1, clock=clock, free_bytes=lambda: 1)
        board = BayBoard([empty_bay(DOCK, BAY, clock)])
        uploads = UploadQueue(
            client,
            staging,
            notices,
            on_progress=board.add_uploaded,
            counters=vitals.counters,
            limits=QueueLimits(longest_wait_s=0.05),
        )
        registry, receipts = RegistryBook(await store.registry()), Pulse()
        parts = UplinkParts(
            store=store,
            notices=notices,
            uploads=uploads,
            board=board,
            vitals=vitals,
            registry=registry,
            receipts=receipts,
            commands=command_desk(journal, notices, clock),
            key=DOCK_KEY,
        )
        link = LinkSettings(host="127.0.0.1", port=port, client_id=DOCK, tls=tls)
        yield Dock(
            journal=journal,
            dockings=DockingMaker(journal, tmp_path / "staging"),
            store=store,
            notices=notices,
            board=board,
            vitals=vitals,
            registry=registry,
            receipts=receipts,
            uploads=uploads,
            commands=parts.commands,
            uplink=Uplink(link, parts, dock=DOCK, clock=clock, pace=pace),
        )
