"""The volumes that edge-mount has mounted, bay by bay; blocking."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.adapters.mount_calls import (
    detach,
    mount,
    open_read_only,
    read_head,
    refuse_used,
    unmount,
)
from edge_agent.adapters.usb_tree import BlockDevice, Disk, UsbTree
from edge_agent.mounting.errors import (
    MountError,
    NoDiskError,
    NotArchivedError,
    NotAUsbBayError,
    NotReadOnlyError,
    TooManyVolumesError,
)
from edge_agent.mounting.messages import MAX_DEVICES, MAX_VOLUMES, MountedVolume, Reply
from edge_agent.mounting.options import FLAGS, mount_options
from edge_agent.mounting.superblock import HEAD_BYTES, FileSystem, is_partitioned, recognise
from protocol.identifiers import BayNumber

_MAX_TEXT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who may read what is mounted, and by which zone recorders' clocks run."""

    uid: int
    gid: int
    zone: ZoneInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundVolume:
    """A volume that can be mounted; *fd* is its device, open and read-only."""

    device: BlockDevice
    file_system: FileSystem
    fd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A recorder that is nobody else's for a while: its volumes, the main one first.

    Attributes:
        device_fds: Of its disks and all partitions.
    """

    volumes: tuple[FoundVolume, ...]
    device_fds: tuple[int, ...]


@dataclass(slots=True)
class _Search:
    """What is found at a bay's ports."""

    volumes: list[FoundVolume] = field(default_factory=list)
    device_fds: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    errors: list[MountError] = field(default_factory=list)

    def leave_out(self, device: BlockDevice, error: MountError) -> None:
        """Note what cannot be read."""
        self.errors.append(error)
        self.left_out.append(f"{device.name}: {error}")


class BayMounts:
    """Mounts and detaches; one bay that hangs holds up no other one."""

    def __init__(
        self,
        ports: Mapping[BayNumber, Sequence[str]],
        *,
        tree: UsbTree,
        folder: Path,
        reader: Reader,
        clock: Callable[[], datetime],
        devices: Path = Path("/dev"),
    ) -> None:
        """Mount nothing yet.

        Args:
            ports: Of each USB bay.
            tree: Where disks are looked for.
            folder: In it each bay has a folder of its own, for its volumes.
            reader: Who reads.
            clock: Aware.
            devices: Where device nodes stand.
        """
        self._ports = ports
        self._tree = tree
        self._folder = folder
        self._reader = reader
        self._clock = clock
        self._devices = devices
        self._locks = {bay: threading.Lock() for bay in ports}

    def mount(self, bay: BayNumber) -> Reply:
        """Mount what is in a bay now, in place of what was mounted for it before."""
        try:
            with self._alone(bay):
                self._detach(bay)
                return self._mount(bay)
        except MountError as error:
            return Reply(code=error.code, text=str(error)[:_MAX_TEXT])

    def detach(self, bay: BayNumber) -> Reply:
        """Take away all that is mounted for a bay; nothing may be."""
        try:
            with self._alone(bay):
                self._detach(bay)
        except MountError as error:
            return Reply(code=error.code, text=str(error)[:_MAX_TEXT])
        return Reply()

    def settle(self, bay: BayNumber) -> None:
        """Take away what an earlier run left, and have nothing that is docked be written to."""
        with contextlib.suppress(MountError), self._alone(bay), contextlib.ExitStack() as stack:
            self._detach(bay)
            self._search(bay, stack)

    @contextlib.contextmanager
    def taken(self, bay: BayNumber) -> Iterator[Taken]:
        """Have a recorder for oneself: nothing of it is mounted, and nobody else is answered.

        Afterwards it is read-only and mounted as before, as far as it can be.

        Raises:
            MountError: There is none, it is in use, or a part of it cannot be read.
        """
        with self._alone(bay):
            try:
                self._unmount(bay)
                with contextlib.ExitStack() as stack:
                    self._be_alone(bay)
                    found = self._search(bay, stack)
                    if found.left_out:
                        raise NotArchivedError(f"not all of it can be read: {found.left_out[0]}")
                    if not found.volumes:
                        raise NoDiskError(f"no disk in bay {bay}")
                    yield Taken(volumes=tuple(found.volumes), device_fds=tuple(found.device_fds))
            finally:
                with contextlib.suppress(MountError):  # the next request says why
                    self._mount(bay)

    def _mount(self, bay: BayNumber) -> Reply:
        mounted: list[MountedVolume] = []
        with contextlib.ExitStack() as stack:
            found = self._search(bay, stack)
            for number, volume in enumerate(found.volumes, start=1):
                try:
                    mounted.append(self._mount_one(bay, str(number), volume))
                except MountError as error:
                    found.leave_out(volume.device, error)
        if not mounted:
            raise found.errors[0] if found.errors else NoDiskError(f"no disk in bay {bay}")
        return Reply(
            volumes=tuple(mounted),
            left_out=len(found.left_out),
            text="; ".join(found.left_out)[:_MAX_TEXT],
        )

    def _search(self, bay: BayNumber, stack: contextlib.ExitStack) -> _Search:
        """Make what is in a bay read-only, and look what it is."""
        search = _Search()
        disks = self._disks_of(bay)
        for disk in disks:
            for device, fd in self._open_all(disk, stack, search):
                try:
                    found = recognise(read_head(fd, HEAD_BYTES))
                    search.volumes.append(FoundVolume(device=device, file_system=found, fd=fd))
                except MountError as error:
                    search.leave_out(device, error)
        # A name and a number are used again as soon as a disk has left: it may have been another
        # bay's that was opened. What is open keeps its number, so this look is the one that counts.
        if not _numbers(disks) <= _numbers(self._disks_of(bay)):
            raise NoDiskError(f"bay {bay}: a disk left while it was looked at")
        if len(search.volumes) > MAX_VOLUMES:
            raise TooManyVolumesError(f"{len(search.volumes)} volumes, at most {MAX_VOLUMES}")
        search.volumes.sort(key=lambda one: (-one.device.size_bytes, one.device.number))
        return search

    def _open_all(
        self, disk: Disk, stack: contextlib.ExitStack, search: _Search
    ) -> Iterator[tuple[BlockDevice, int]]:
        """Make a disk and all its partitions read-only; yield what may hold a volume."""
        try:
            whole = stack.enter_context(open_read_only(disk.device, self._devices))
            search.device_fds.append(whole)
            parts: list[tuple[BlockDevice, int]] = []
            for part in disk.partitions:
                fd = stack.enter_context(open_read_only(part, self._devices))
                search.device_fds.append(fd)
                parts.append((part, fd))
            if not (parts and is_partitioned(read_head(whole, HEAD_BYTES))):
                yield disk.device, whole
                return
        except NotReadOnlyError:
            raise  # nothing in this bay is mounted
        except MountError as error:
            search.leave_out(disk.device, error)
            return
        yield from parts

    def _mount_one(self, bay: BayNumber, name: str, volume: FoundVolume) -> MountedVolume:
        found = volume.file_system
        target = self._folder / str(bay) / name
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        reader = self._reader
        options = mount_options(
            found.kind, uid=reader.uid, gid=reader.gid, zone=reader.zone, now=self._clock()
        )
        try:
            mount(volume.fd, target, kind=found.kind.value, flags=FLAGS, options=options)
        except MountError:
            with contextlib.suppress(OSError):  # it is mounted there still, and in use
                target.rmdir()
            raise
        return MountedVolume(
            name=name,
            file_system=found.kind,
            volume_id=found.volume_id,
            label=found.untrusted_label.decode(errors="replace"),
            size_bytes=volume.device.size_bytes,
        )

    def _detach(self, bay: BayNumber) -> None:
        for number in range(1, MAX_VOLUMES + 1):
            target = self._folder / str(bay) / str(number)
            if not target.is_dir():
                continue
            while detach(target):
                pass
            target.rmdir()

    def _be_alone(self, bay: BayNumber) -> None:
        """Raise EraseFailedError while anybody has one of a bay's file systems mounted anywhere.

        A mount that was detached lives on as long as a file of it is open; mounting the device once
        more would share its memory of what the files hold.
        """
        for disk in self._disks_of(bay):
            for device in (disk.device, *disk.partitions):
                refuse_used(device, self._devices)

    def _unmount(self, bay: BayNumber) -> None:
        """Take away what is mounted for a bay, if nobody uses any of it."""
        for number in range(1, MAX_VOLUMES + 1):
            target = self._folder / str(bay) / str(number)
            if target.is_dir():
                if target.is_mount():
                    unmount(target)
                target.rmdir()

    def _disks_of(self, bay: BayNumber) -> tuple[Disk, ...]:
        """Return what is in a bay.

        Raises:
            TooManyVolumesError: It is no recorder; none of it was opened.
        """
        disks = self._tree.disks_at(self._ports_of(bay))
        devices = sum(1 + len(disk.partitions) for disk in disks)
        if devices > MAX_DEVICES:
            raise TooManyVolumesError(f"{devices} disks and partitions, at most {MAX_DEVICES}")
        return disks

    def _alone(self, bay: BayNumber) -> threading.Lock:
        """Return what to hold while something is done to a bay; NotAUsbBayError if it is none."""
        self._ports_of(bay)
        return self._locks[bay]

    def _ports_of(self, bay: BayNumber) -> Sequence[str]:
        try:
            return self._ports[bay]
        except KeyError:
            raise NotAUsbBayError(f"bay {bay} is no USB bay of the configuration") from None


def _numbers(disks: Sequence[Disk]) -> set[tuple[int, int]]:
    return {device.number for disk in disks for device in (disk.device, *disk.partitions)}
