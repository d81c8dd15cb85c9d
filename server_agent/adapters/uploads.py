"""Receive the files that admitted manifests promise; HTTP is tus_endpoint.py's business."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from protocol.identifiers import DockId
from runtime.errors import Retry
from server_agent.adapters.bag_records import (
    IncomingEntry,
    find_upload,
    load_missing,
    mark_file,
)
from server_agent.adapters.bag_writer import BagWriter
from server_agent.adapters.catalogue_store import CatalogueStore
from server_agent.adapters.upload_slots import OvertakenError, Slot, Slots, in_thread
from server_agent.archive.bag import DATA
from server_agent.archive.layout import incoming_path
from server_agent.errors import ServerError
from server_agent.intake.offsets import (
    Creation,
    Fault,
    UploadFault,
    judge_append,
    parse_upload_id,
    too_long,
    upload_id,
)
from server_agent.intake.states import FileState

# How much may be lost when the power goes in the middle of a request; the dock sends it again.
SYNC_BYTES: Final = 16 * 1024 * 1024
# So far ahead of what has arrived is room set aside: no dock can claim a disk by announcing files.
RESERVED_BYTES: Final = 64 * 1024 * 1024


class UploadRefusedError(ServerError):
    """A request about an upload cannot be granted; the dock is told the fault's own code.

    Attributes:
        fault: Why.
    """

    code = "E-UPL-100"
    retry = Retry.NEVER

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.kind.value}: {fault.detail}")
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What one archive takes on.

    Attributes:
        receiving: How many files may be received at the same time.
        receiving_per_dock: How many of them from one dock.
        open_files: How many unfinished files are kept open: going on with them costs no re-reading.
        keep_free_bytes: What stays free on the archive's disk, for the catalogue and for tag files.
        expiry_s: An unfinished file that nothing was added to for so long is removed.
    """

    receiving: int = 64
    receiving_per_dock: int = 8
    open_files: int = 128
    keep_free_bytes: int = 1 << 30
    expiry_s: int = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks: a dock, and how to end the connection that it asks by."""

    dock: DockId
    cut_off: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The bytes of one request.

    Attributes:
        chunks: May raise; what came before is kept.
        size_bytes: How many the request announces; None if it does not say.
        checksum: The SHA-256 that they must have, 32 bytes; None if the request does not say.
    """

    chunks: AsyncIterator[bytes]
    size_bytes: int | None
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a file is: ``offset_bytes`` of it are durable."""

    upload_id: str
    offset_bytes: int
    length_bytes: int

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self.offset_bytes == self.length_bytes


class Uploads:
    """The files that are being received."""

    def __init__(
        self,
        store: CatalogueStore,
        bags: BagWriter,
        *,
        arrived: Callable[[int], None],
        limits: UploadLimits,
    ) -> None:
        """Receive into *bags*.

        Args:
            store: Knows what is promised, and is told what has arrived.
            bags: Knows where it belongs.
            arrived: Called with a group's number when one of its files has arrived.
            limits: What one archive takes on.
        """
        self.limits = limits
        self._store = store
        self._bags = bags
        self._arrived = arrived
        self._slots = Slots(open_files=limits.open_files)
        self._receiving: Counter[DockId] = Counter()
        # Held from looking how much is free to setting it aside: two could else take the same room.
        self._reserving = asyncio.Lock()

    async def create(self, asking: Asking, creation: Creation) -> Progress:
        """Make room for a file, or find it as it is.

        Raises:
            UploadRefusedError: No admitted manifest of this dock promises this file in this
                length, or the disk is full.
            OvertakenError: The dock asks about the same file again.
            OSError: Our disk failed.
        """
        name = upload_id(creation.manifest_id, creation.sha256)
        entry = await self._find(asking.dock, name)
        if entry is None or entry.size_bytes != creation.length_bytes:
            raise _refused(
                UploadFault.NOT_MISSING,
                "no admitted manifest of this dock promises such a file of this length",
            )
        async with self._slots.turn(name, asking.cut_off) as slot:
            entry = await self._again(asking.dock, name)
            if entry.state is not FileState.MISSING:
                return _complete(entry)
            if not await self._open(slot, entry):
                await self._create(slot, entry)
            return await self._told(slot, entry)

    async def tell(self, asking: Asking, name: str) -> Progress:
        """Return how much of an upload is durable.

        Raises:
            UploadRefusedError: There is no such upload of this dock.
            OvertakenError: The dock asks about the same file again.
            OSError: Our disk failed.
        """
        await self._again(asking.dock, name)  # before anybody loses its connection
        async with self._slots.turn(name, asking.cut_off) as slot:
            entry = await self._again(asking.dock, name)
            if entry.state is not FileState.MISSING:
                return _complete(entry)
            if not await self._open(slot, entry):
                raise _no_upload(name)
            return await self._told(slot, entry)

    async def append(self, asking: Asking, name: str, body: Body, *, told_offset: int) -> Progress:
        """Add bytes to an upload, and return how much of it is durable then.

        Raises:
            UploadRefusedError: It is not to be had, or what came is not what was promised.
            OvertakenError: The dock asks about the same file again.
            OSError: Our disk failed.
        """
        await self._again(asking.dock, name)
        with self._share(asking.dock):
            async with self._slots.turn(name, asking.cut_off) as slot:
                entry = await self._again(asking.dock, name)
                return await self._append(slot, entry, body, told_offset)

    async def forget(self, entry: IncomingEntry) -> None:
        """Remove what was received of a file that has to come again; no request can hinder it.

        Nothing is removed of a file that has arrived meanwhile.

        Raises:
            OSError: Our disk failed.
        """
        await self._remove(entry, is_wanted=lambda _: True)

    async def expire(self) -> int:
        """Remove unfinished files that nothing was added to for too long; return how many.

        Raises:
            OSError: Our disk failed.
        """
        async with self._store.reading() as connection:
            missing = await load_missing(connection)
        oldest_s = time.time() - self.limits.expiry_s
        paths = [(entry, self.path_of(entry)) for entry in missing]
        expired = await in_thread(
            lambda: [entry for entry, path in paths if _is_older(path, oldest_s)]
        )
        removed = [
            await self._remove(entry, is_wanted=lambda path: _is_older(path, oldest_s))
            for entry in expired
        ]
        return sum(removed)

    def close(self) -> None:
        """Close every file; no request may be under way."""
        self._slots.close()

    @contextlib.contextmanager
    def _share(self, dock: DockId) -> Iterator[None]:
        """Count a request among those that receive, for the length of the block."""
        receiving, of_dock = self._receiving.total(), self._receiving[dock]
        if receiving >= self.limits.receiving:
            raise _refused(UploadFault.BUSY, f"{receiving} files are being received")
        if of_dock >= self.limits.receiving_per_dock:
            raise _refused(UploadFault.BUSY, f"{of_dock} files of this dock are being received")
        self._receiving[dock] += 1
        try:
            yield
        finally:
            self._receiving[dock] -= 1

    async def _remove(self, entry: IncomingEntry, *, is_wanted: Callable[[Path], bool]) -> bool:
        """Remove a file that is still missing and of which *is_wanted* says so; return whether."""
        name, path = _name(entry), self.path_of(entry)
        async with self._slots.turn(name, None) as slot:
            async with self._store.reading() as connection:
                found = await find_upload(connection, entry.manifest_id, entry.digests.sha256)
            if found is None or found[1].state is not FileState.MISSING:
                return False
            if not await in_thread(lambda: is_wanted(path)):
                return False
            slot.close()
            await in_thread(lambda: path.unlink(missing_ok=True))
            return True

    async def _append(
        self, slot: Slot, entry: IncomingEntry, body: Body, told_offset: int
    ) -> Progress:
        is_missing = entry.state is FileState.MISSING
        if is_missing and not await self._open(slot, entry):
            raise _no_upload(_name(entry))
        fault = judge_append(
            told_offset=told_offset,
            offset_bytes=slot.received_bytes if is_missing else entry.size_bytes,
            length_bytes=entry.size_bytes,
            content_bytes=body.size_bytes,
        )
        if fault is not None:
            raise UploadRefusedError(fault)
        if not is_missing:
            return _complete(entry)
        try:
            await self._receive(slot, entry, body)
        finally:
            await slot.release()
        return await self._told(slot, entry)

    async def _receive(self, slot: Slot, entry: IncomingEntry, body: Body) -> None:
        start_bytes = slot.received_bytes
        checksum = sha256()
        async for chunk in body.chunks:
            if slot.received_bytes + len(chunk) > entry.size_bytes:
                await self._restart(slot, entry)
                raise UploadRefusedError(too_long(entry.size_bytes))
            if slot.received_bytes + len(chunk) > slot.reserved_bytes:
                await self._reserve(slot, entry, body, at_least_bytes=len(chunk))
            if body.checksum is not None:
                checksum.update(chunk)
            slot.write(chunk)
            if slot.received_bytes - slot.synced_bytes >= SYNC_BYTES:
                await slot.sync()
        if body.checksum is not None and checksum.digest() != body.checksum:
            await slot.cut(start_bytes)
            raise _refused(UploadFault.DIGEST_DIFFERS, "the bytes are not what the checksum says")

    async def _told(self, slot: Slot, entry: IncomingEntry) -> Progress:
        """Make durable what is there, so that it can be told; the last byte ends the upload."""
        await slot.sync()
        offset_bytes = slot.received_bytes
        if offset_bytes == entry.size_bytes:
            await self._finish(slot, entry)
        return Progress(
            upload_id=_name(entry), offset_bytes=offset_bytes, length_bytes=entry.size_bytes
        )

    async def _finish(self, slot: Slot, entry: IncomingEntry) -> None:
        found = slot.digests()
        if found != entry.digests:
            await self._restart(slot, entry)
            raise _refused(
                UploadFault.DIGEST_DIFFERS,
                f"what came has SHA-256 {found.sha256}; it has to be sent again from the start",
            )
        slot.close()
        async with self._store.writing() as connection:
            await mark_file(
                connection, entry.file_id, before=FileState.MISSING, after=FileState.ARRIVED
            )
        self._arrived(entry.group_id)

    async def _open(self, slot: Slot, entry: IncomingEntry) -> bool:
        with_sm3 = entry.digests.sm3 is not None
        if not await slot.open(self.path_of(entry), with_sm3=with_sm3):
            return False
        if slot.received_bytes > entry.size_bytes:
            await self._restart(slot, entry)
        return True

    async def _create(self, slot: Slot, entry: IncomingEntry) -> None:
        folder = await in_thread(lambda: self._bags.incoming_dir(entry.manifest_id, entry.group))
        # Nothing is set aside yet: of a file that cannot fit, not the first byte need come.
        await self._look_for_room(entry.size_bytes)
        await slot.create(folder / DATA / entry.safe_name, with_sm3=entry.digests.sm3 is not None)

    async def _reserve(
        self, slot: Slot, entry: IncomingEntry, body: Body, *, at_least_bytes: int
    ) -> None:
        """Set room aside for what this request is about to bring, a step at a time."""
        start_bytes = slot.received_bytes
        rest_bytes = entry.size_bytes - start_bytes
        if body.size_bytes is not None:
            rest_bytes = min(rest_bytes, body.size_bytes)
        step_bytes = max(at_least_bytes, min(rest_bytes, RESERVED_BYTES))
        async with self._reserving:
            await self._look_for_room(step_bytes)
            await slot.reserve(start_bytes + step_bytes)

    async def _look_for_room(self, size_bytes: int) -> None:
        free_bytes = await in_thread(lambda: _free_bytes(self._bags.root))
        if free_bytes - size_bytes < self.limits.keep_free_bytes:
            raise _refused(
                UploadFault.ARCHIVE_FULL,
                f"{free_bytes} bytes are free, {self.limits.keep_free_bytes} have to stay so",
            )

    async def _restart(self, slot: Slot, entry: IncomingEntry) -> None:
        await slot.discard()
        await self._create(slot, entry)

    async def _again(self, dock: DockId, name: str) -> IncomingEntry:
        entry = await self._find(dock, name)
        if entry is None:
            raise _no_upload(name)
        return entry

    async def _find(self, dock: DockId, name: str) -> IncomingEntry | None:
        upload = parse_upload_id(name)
        if isinstance(upload, Fault):
            raise UploadRefusedError(upload)
        async with self._store.reading() as connection:
            found = await find_upload(connection, *upload)
        return found[1] if found is not None and found[0] == dock else None

    def path_of(self, entry: IncomingEntry) -> Path:
        """Return where the bytes of a file belong until its bag is closed."""
        group = self._bags.root / incoming_path(entry.manifest_id, entry.group)
        return group / DATA / entry.safe_name


def _name(entry: IncomingEntry) -> str:
    return upload_id(entry.manifest_id, entry.digests.sha256)


def _complete(entry: IncomingEntry) -> Progress:
    return Progress(
        upload_id=_name(entry), offset_bytes=entry.size_bytes, length_bytes=entry.size_bytes
    )


def _no_upload(name: str) -> UploadRefusedError:
    return _refused(UploadFault.NO_UPLOAD, f"no upload {name!r:.140}")


def _refused(kind: UploadFault, detail: str) -> UploadRefusedError:
    return UploadRefusedError(Fault(kind=kind, detail=detail))


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _is_older(path: Path, oldest_s: float) -> bool:
    try:
        return path.stat().st_mtime < oldest_s
    except FileNotFoundError:
        return False


__all__ = [
    "SYNC_BYTES",
    "Asking",
    "Body",
    "OvertakenError",
    "Progress",
    "UploadLimits",
    "UploadRefusedError",
    "Uploads",
]
