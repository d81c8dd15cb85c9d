"""Erases archived footage from a recorder; blocking, and in edge-mount alone.

Nothing is erased whose bytes were not read off the recorder a moment before, from a file system
that was mounted for that, and found to be what the archive's receipt is about.
"""

import contextlib
import hashlib
import os
import stat
import threading
import time
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from edge_agent.adapters.bay_mounts import BayMounts, FoundVolume, Reader, Taken
from edge_agent.adapters.directory_volume import open_below
from edge_agent.adapters.joined_volume import JoinedVolume, split_path
from edge_agent.adapters.mount_calls import (
    detach,
    forget_cached,
    mount,
    set_read_only,
    set_writable,
    sync_file_system,
    unmount,
)
from edge_agent.adapters.proof_file import SiteRule, read_proof
from edge_agent.erasing.claims import Due, DueFiles, ProvedFiles
from edge_agent.erasing.proof import Proof, ProvedRecorder
from edge_agent.errors import IngestError
from edge_agent.ingest.volume import RawEntry
from edge_agent.mounting.errors import (
    EraseFailedError,
    EvidenceError,
    MayNotEraseError,
    MountError,
    NotArchivedError,
)
from edge_agent.mounting.messages import Erased, Progress, Reply
from edge_agent.mounting.options import FLAGS, WRITING_FLAGS, mount_options
from protocol.identifiers import BayNumber, DockingId
from protocol.keys import KeyId, VerifyingKey

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TELL_AFTER_S: Final = 1.0
_MAX_TEXT: Final = 1_000
# No recorder has as many, and a card whose folders are one another's has no end of them.
_MOST_ENTRIES: Final = 1_000_000

# Told how far it is; False if nobody waits any more.
GoOn = Callable[[Progress], bool]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    """Whether to go on: who asked for it, and whether this program is to stop."""

    go_on: GoOn
    stopping: threading.Event

    def check(self) -> None:
        """Return unless this program is to stop; EraseFailedError then."""
        if self.stopping.is_set():
            raise EraseFailedError("edge-mount is stopping")

    def tell(self, progress: Progress) -> None:
        """Tell how far it is.

        Raises:
            EraseFailedError: Nobody waits for it any more, or this program is to stop.
        """
        self.check()
        if not self.go_on(progress):
            raise EraseFailedError("nobody waits for it any more")


@dataclass(slots=True)
class _Tally:
    """What is gone already, however it ends."""

    files: int = 0
    size_bytes: int = 0


class BayErasing:
    """Erases for one bay at a time; a bay that hangs holds up no other one."""

    def __init__(
        self,
        mounts: BayMounts,
        folder: Path,
        *,
        owner: Reader,
        archive_keys: Mapping[KeyId, VerifyingKey],
        clock: Callable[[], datetime],
    ) -> None:
        """Erase nothing yet.

        Args:
            mounts: Of all bays.
            folder: Where volumes are mounted to be written to: nobody else may enter it.
            owner: Ourselves, and by which zone recorders' clocks run.
            archive_keys: The keys that may sign receipts and the registry.
            clock: Aware.
        """
        self._mounts = mounts
        self._folder = folder
        self._owner = owner
        self._archive_keys = archive_keys
        self._clock = clock
        self._stopping = threading.Event()
        self._reading = threading.Lock()

    def stop(self) -> None:
        """Have everything under way end before its next file."""
        self._stopping.set()

    def erase(self, bay: BayNumber, docking_id: DockingId, proof_fd: int, go_on: GoOn) -> Reply:
        """Erase what the site's policy lets go, of the recorder that a docking was about.

        Args:
            bay: Where it is.
            docking_id: Which docking says what is on it.
            proof_fd: See `edge_agent.adapters.proof_file`.
            go_on: Asked before each step; when it says no, nothing more is erased.
        """
        tally = _Tally()
        asker = _Asker(go_on=go_on, stopping=self._stopping)
        try:
            self._erase(bay, docking_id, proof_fd, asker, tally)
        except (MountError, IngestError) as error:
            code, text = _as_told(error)
            _log.warning(
                "not erased", bay=bay, docking=docking_id, code=code, text=text, files=tally.files
            )
            return Reply(code=code, text=text[:_MAX_TEXT], erased=_erased(tally))
        except OSError as error:
            text = f"{error.strerror}"
            _log.warning("not erased", bay=bay, docking=docking_id, text=text, files=tally.files)
            return Reply(code=EraseFailedError.code, text=text, erased=_erased(tally))
        _log.info(
            "all erased",
            bay=bay,
            docking=docking_id,
            files=tally.files,
            size_bytes=tally.size_bytes,
        )
        return Reply(erased=_erased(tally))

    def _erase(
        self, bay: BayNumber, docking_id: DockingId, proof_fd: int, asker: _Asker, tally: _Tally
    ) -> None:
        rule, proved = self._proved(bay, docking_id, proof_fd, asker)
        delay = rule.erasing.delay_of(proved.model)
        if delay is None:
            raise MayNotEraseError(f"the site has footage kept on {proved.model!r}")
        archived_before = self._clock() - delay
        if not proved.files.is_any_due(archived_before):
            return
        with self._mounts.taken(bay) as taken:
            _forget(taken)
            with self._mounted(bay, taken.volumes, for_writing=False) as roots:
                due, contents = _read_anew(roots, proved.files, archived_before, asker)
            _log.info(
                "erasing",
                bay=bay,
                docking=docking_id,
                registry=rule.registry_version,
                files=len(due),
                size_bytes=due.size_bytes,
            )
            with (
                writable(taken),
                _forgotten(taken),
                self._mounted(bay, taken.volumes, for_writing=True) as roots,
            ):
                with JoinedVolume.mount(roots) as volume, _listed(volume, asker) as listing:
                    again = proved.files.due(listing, archived_before)
                if not again.are_the_same(due):
                    raise NotArchivedError("it is not as it was a moment ago")
                _remove_all(roots, again, contents, asker, tally)
            _forget(taken)
            with self._mounted(bay, taken.volumes, for_writing=False) as roots:
                _look_after(roots, due, asker)

    def _proved(
        self, bay: BayNumber, docking_id: DockingId, proof_fd: int, asker: _Asker
    ) -> tuple[SiteRule, ProvedRecorder]:
        """Read what is shown, one bay after the other: it takes more memory than what is kept."""
        if not self._reading.acquire(blocking=False):
            _log.info("waits until another bay's proof is read", bay=bay, docking=docking_id)
            while not self._reading.acquire(timeout=_TELL_AFTER_S):
                asker.tell(Progress(files_done=0, files_total=0, bytes_done=0, bytes_total=0))
        try:
            proof = Proof(docking_id=docking_id, archive_keys=self._archive_keys)
            rule = read_proof(proof_fd, proof)
            return rule, proof.close()
        except OSError as error:
            raise EvidenceError(f"it cannot be read: {error.strerror}") from error
        finally:
            self._reading.release()

    @contextlib.contextmanager
    def _mounted(
        self, bay: BayNumber, volumes: Sequence[FoundVolume], *, for_writing: bool
    ) -> Iterator[list[Path]]:
        """Mount volumes where we alone can get at them; they are on their disk when it ends."""
        roots: list[Path] = []
        try:
            for number, one in enumerate(volumes, start=1):
                roots.append(self._mount(bay, number, one, for_writing=for_writing))
            yield roots
            for root in roots:
                unmount(root)
        finally:
            for root in roots:
                while detach(root):
                    pass
                with contextlib.suppress(OSError):
                    root.rmdir()

    def _mount(
        self, bay: BayNumber, number: int, volume: FoundVolume, *, for_writing: bool
    ) -> Path:
        kind = volume.file_system.kind
        if volume.file_system.has_open_journal:
            raise EraseFailedError("its file system was not closed: its journal would be replayed")
        target = self._folder / str(bay) / str(number)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = self._owner
        options = mount_options(
            kind,
            uid=owner.uid,
            gid=owner.gid,
            zone=owner.zone,
            now=self._clock(),
            for_writing=for_writing,
        )
        flags = WRITING_FLAGS if for_writing else FLAGS
        try:
            mount(volume.fd, target, kind=kind.value, flags=flags, options=options)
        except MountError as error:
            target.rmdir()
            raise EraseFailedError(str(error)) from error
        return target


def settle_bay_folder(folder: Path) -> None:
    """Take away what an earlier run left mounted to be erased for one bay."""
    for target in folder.iterdir():
        while detach(target):
            pass
        with contextlib.suppress(OSError):
            target.rmdir()


def _forget(taken: Taken) -> None:
    """Have what is read next come from the devices, and from no memory of them."""
    for fd in taken.device_fds:
        forget_cached(fd)


@contextlib.contextmanager
def _forgotten(taken: Taken) -> Iterator[None]:
    _forget(taken)
    yield


@contextlib.contextmanager
def writable(taken: Taken) -> Iterator[None]:
    """Have a recorder be writable; afterwards each of its devices is read-only, if one can be."""
    with contextlib.ExitStack() as devices:
        for fd in taken.device_fds:
            devices.callback(set_read_only, fd)
            set_writable(fd)
        yield


def _read_anew(
    roots: Sequence[Path], proved: ProvedFiles, archived_before: datetime, asker: _Asker
) -> tuple[DueFiles, Sequence[int]]:
    """Return what may be erased, and which of its contents each holds, read from it just now."""
    found = array("I")
    with JoinedVolume.mount(roots) as volume:
        with _listed(volume, asker) as listing:
            due = proved.due(listing, archived_before)
        teller = _Teller(asker, due)
        for one in due:
            with volume.open(one.path) as file:
                digest = hashlib.sha256()
                for chunk in file.chunks(offset_bytes=0):
                    digest.update(chunk)
                    teller.count(len(chunk))
            if digest.hexdigest() not in one.sha256s:
                raise NotArchivedError(f"{one.path!r} holds other bytes than were archived")
            found.append(one.sha256s.index(digest.hexdigest()))
            teller.files_done += 1
    teller.tell()
    return due, found


def _remove_all(
    roots: Sequence[Path], due: DueFiles, found: Sequence[int], asker: _Asker, tally: _Tally
) -> None:
    teller = _Teller(asker, due, is_read=True)
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        for root in roots:
            fds.append(os.open(root, _FOLDER))
            stack.callback(os.close, fds[-1])
        for one, which in zip(due, found, strict=True):
            teller.count(0)
            number, inner = split_path(one.path, len(roots))
            _log.info(
                "erasing a file",
                path=repr(one.path)[:_MAX_TEXT],
                size_bytes=one.size_bytes,
                sha256=one.sha256s[which],
            )
            _remove(fds[number - 1], inner, one)
            tally.files += 1
            tally.size_bytes += one.size_bytes
        for fd in fds:
            sync_file_system(fd)


def _remove(root_fd: int, path: bytes, due: Due) -> None:
    folder, _, name = path.rpartition(b"/")
    try:
        fd = open_below(root_fd, folder or b".", _FOLDER)
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_it = stat.S_ISREG(found.st_mode) and found.st_size == due.size_bytes
            if not is_it or due.node not in {None, (found.st_dev, found.st_ino)}:
                raise NotArchivedError(f"{path!r} is another file than a moment ago")
            os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise EraseFailedError(f"{path!r}: {error.strerror}") from error


def _look_after(roots: Sequence[Path], due: DueFiles, asker: _Asker) -> None:
    with JoinedVolume.mount(roots) as volume, _listed(volume, asker) as listing:
        for entry in listing:
            if due.has(entry.path):
                raise EraseFailedError(f"{entry.path!r} is still there")


@contextlib.contextmanager
def _listed(volume: JoinedVolume, asker: _Asker) -> Iterator[Iterator[RawEntry]]:
    """List a recorder, as long as somebody waits: folders may lead around in circles."""

    def entries() -> Generator[RawEntry]:
        for number, entry in enumerate(volume.entries()):
            if number >= _MOST_ENTRIES:
                raise EraseFailedError(f"more than {_MOST_ENTRIES} names")
            asker.check()
            yield entry

    # A listing that ends in the middle holds its folder open, and an error holds the listing:
    # the volume would stay mounted, out of sight, as it was.
    with contextlib.closing(entries()) as listing:
        yield listing


class _Teller:
    """Tells how far it is, about once a second."""

    def __init__(self, asker: _Asker, due: DueFiles, *, is_read: bool = False) -> None:
        self._asker = asker
        self._files_total = len(due)
        self._bytes_total = due.size_bytes
        self._bytes_done = self._bytes_total if is_read else 0
        self.files_done = self._files_total if is_read else 0
        self._told_at_s = 0.0

    def count(self, size_bytes: int) -> None:
        """Count what was read.

        Raises:
            EraseFailedError: Nobody waits for it any more.
        """
        self._bytes_done += size_bytes
        self._asker.check()
        if time.monotonic() >= self._told_at_s + _TELL_AFTER_S:
            self.tell()

    def tell(self) -> None:
        """Tell it now."""
        self._told_at_s = time.monotonic()
        self._asker.tell(
            Progress(
                files_done=self.files_done,
                files_total=self._files_total,
                bytes_done=self._bytes_done,
                bytes_total=self._bytes_total,
            )
        )


def _erased(tally: _Tally) -> Erased:
    return Erased(files=tally.files, size_bytes=tally.size_bytes)


def _as_told(error: MountError | IngestError) -> tuple[str, str]:
    """Return code and text; what a recorder does while it is read is a failure to erase."""
    if isinstance(error, IngestError):
        return EraseFailedError.code, f"{error.code}: {error}"
    return error.code, str(error)
