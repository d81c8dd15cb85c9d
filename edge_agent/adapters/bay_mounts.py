"""The volumes that edge-mount has mounted, bay by bay; blocking."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from edge_agent.adapters.mount_calls import detach, mount, open_read_only, read_head
from edge_agent.adapters.usb_tree import BlockDevice, Disk, UsbTree
from edge_agent.errors import MountError, NoDiskError, NotAUsbBayError, NotReadOnlyError
from edge_agent.mounting.messages import MAX_VOLUMES, MountedVolume, Reply
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
class _Candidate:
    """A volume that can be mounted."""

    device: BlockDevice
    file_system: FileSystem


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
        self._locks: dict[BayNumber, threading.Lock] = defaultdict(threading.Lock)

    def mount(self, bay: BayNumber) -> Reply:
        """Mount what is in a bay now, in place of what was mounted for it before."""
        with self._locks[bay]:
            try:
                self._detach(bay)
                return self._mount(bay)
            except MountError as error:
                return Reply(code=error.code, text=str(error)[:_MAX_TEXT])

    def detach(self, bay: BayNumber) -> Reply:
        """Take away all that is mounted for a bay; nothing may be."""
        with self._locks[bay]:
            try:
                self._detach(bay)
            except MountError as error:
                return Reply(code=error.code, text=str(error)[:_MAX_TEXT])
        return Reply()

    def detach_all(self) -> None:
        """Take away what an earlier run left."""
        for bay in self._ports:
            self.detach(bay)

    def _mount(self, bay: BayNumber) -> Reply:
        left_out: list[str] = []
        errors: list[MountError] = []
        mounted: list[MountedVolume] = []
        with contextlib.ExitStack() as stack:
            candidates: list[tuple[_Candidate, int]] = []
            for disk in self._tree.disks_at(self._ports_of(bay)):
                for device, fd in self._open_all(disk, stack, errors):
                    try:
                        found = recognise(read_head(fd, HEAD_BYTES))
                        candidates.append((_Candidate(device=device, file_system=found), fd))
                    except MountError as error:
                        errors.append(error)
                        left_out.append(f"{device.name}: {error}")
            candidates.sort(key=lambda one: (-one[0].device.size_bytes, one[0].device.number))
            left_out += [f"{one.device.name}: too many" for one, _ in candidates[MAX_VOLUMES:]]
            for number, (candidate, fd) in enumerate(candidates[:MAX_VOLUMES], start=1):
                try:
                    mounted.append(self._mount_one(bay, str(number), candidate, fd))
                except MountError as error:
                    errors.append(error)
                    left_out.append(f"{candidate.device.name}: {error}")
        if not mounted:
            raise errors[0] if errors else NoDiskError(f"no disk in bay {bay}")
        return Reply(volumes=tuple(mounted), text="; ".join(left_out)[:_MAX_TEXT])

    def _open_all(
        self, disk: Disk, stack: contextlib.ExitStack, errors: list[MountError]
    ) -> Iterator[tuple[BlockDevice, int]]:
        """Make a disk and all its partitions read-only; yield what may hold a volume."""
        try:
            whole = stack.enter_context(open_read_only(disk.device, self._devices))
            parts = [
                (part, stack.enter_context(open_read_only(part, self._devices)))
                for part in disk.partitions
            ]
            if not (parts and is_partitioned(read_head(whole, HEAD_BYTES))):
                yield disk.device, whole
                return
        except NotReadOnlyError:
            raise  # nothing in this bay is mounted
        except MountError as error:
            errors.append(error)
            return
        yield from parts

    def _mount_one(
        self, bay: BayNumber, name: str, candidate: _Candidate, fd: int
    ) -> MountedVolume:
        found = candidate.file_system
        target = self._folder / str(bay) / name
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        reader = self._reader
        options = mount_options(
            found.kind, uid=reader.uid, gid=reader.gid, zone=reader.zone, now=self._clock()
        )
        try:
            mount(fd, target, kind=found.kind.value, flags=FLAGS, options=options)
        except MountError:
            target.rmdir()
            raise
        return MountedVolume(
            name=name,
            file_system=found.kind,
            volume_id=found.volume_id,
            label=found.untrusted_label.decode(errors="replace"),
            size_bytes=candidate.device.size_bytes,
        )

    def _detach(self, bay: BayNumber) -> None:
        self._ports_of(bay)
        for number in range(1, MAX_VOLUMES + 1):
            target = self._folder / str(bay) / str(number)
            if not target.is_dir():
                continue
            while detach(target):
                pass
            target.rmdir()

    def _ports_of(self, bay: BayNumber) -> Sequence[str]:
        try:
            return self._ports[bay]
        except KeyError:
            raise NotAUsbBayError(f"bay {bay} is no USB bay of the configuration") from None
