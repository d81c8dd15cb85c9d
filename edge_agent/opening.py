"""How a docking begins: a recorder says who it is, the registry knows it, the journal notes it."""

import contextlib
from datetime import datetime

from edge_agent.errors import SourceUnreadableError, UnregisteredRecorderError
from edge_agent.ingest.files import Device
from edge_agent.ingest.identity import (
    MAX_IDENTITY_FILE_BYTES,
    Identity,
    identify,
    identity_files,
)
from edge_agent.ingest.listing import Listing, take_listing
from edge_agent.ingest.told import Told
from edge_agent.ingest.volume import Volume
from edge_agent.interrupted import close_interrupted, unix_ms
from edge_agent.ports import DockingPorts, DockingSettings, OpenDocking
from protocol.identifiers import BayNumber, DockingId
from protocol.manifest import RecorderFacts
from protocol.registry import RecorderEntry


def meet(volume: Volume, settings: DockingSettings) -> tuple[Listing, Identity]:
    """Blocking: list the volume, and let the recorder say who it is."""
    listing = take_listing(volume.entries(), settings.limits)
    paths = listing.file_paths
    contents: dict[bytes, bytes] = {}
    for path in identity_files(settings.profiles, paths):
        with contextlib.suppress(SourceUnreadableError):
            contents[path] = volume.read_small(path, max_bytes=MAX_IDENTITY_FILE_BYTES)
    return listing, identify(settings.profiles, paths, contents)


def registered(identity: Identity, ports: DockingPorts) -> RecorderEntry:
    """Return what the site's registry says of a recorder.

    Raises:
        UnregisteredRecorderError: It says nothing.
    """
    entry = ports.find_recorder(model=identity.model, serial=identity.serial)
    if entry is None:
        raise UnregisteredRecorderError(
            f"{identity.model} serial {identity.serial!r} is not in the site's registry"
        )
    return entry


async def open_docking(
    identity: Identity,
    entry: RecorderEntry,
    told: Told | None,
    *,
    bay: BayNumber,
    docked_at: datetime,
    ports: DockingPorts,
    settings: DockingSettings,
) -> OpenDocking:
    """Open the docking in the journal; what was cut short of this bay or recorder is closed first.

    Only a docking that this process is busy with keeps a recorder from being read.
    """
    device = Device(model=identity.model, serial=identity.serial)
    for earlier in await ports.journal.open_dockings():
        concerns = earlier.bay == bay or earlier.device == device
        if concerns and earlier.docking_id not in ports.live:
            await close_interrupted(earlier, ports, settings)
    opened = OpenDocking(
        docking_id=DockingId(ports.mint()),
        bay=bay,
        recorder=RecorderFacts(
            recorder_id=entry.recorder,
            make=identity.make,
            model=identity.model,
            serial=identity.serial,
            profile=identity.profile.name,
        ),
        officer=identity.officer or entry.officer,
        docked_at_ms=unix_ms(docked_at),
        told=told,
    )
    ports.live.add(opened.docking_id)
    try:
        await ports.journal.open_docking(opened)
    except BaseException:
        ports.live.discard(opened.docking_id)
        raise
    return opened
