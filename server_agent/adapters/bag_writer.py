"""Fill and close the archive's bags on its own disk; docs/durability.md says what each step is for.

The order of `BagWriter.close_bag`, whose every step may be the last before a power cut:

1. every payload file is there, at its size, and nothing else is;
2. the tag files are written anew and synced;
3. every payload file loses its write bits and is synced; then the folders are;
4. every file is dropped from the page cache and read back; one wrong byte, and the bag stays out;
5. the inner folders lose their write bits;
6. the bag gets its place, by a rename that replaces nothing, and both parents are synced;
7. the bag's folder loses its write bits. It could not before: to move a folder, its own ".." is
   written.

Payload bytes are never written, moved or removed by this module.
"""

import errno
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from protocol.digest import Digests, sha256_hex
from protocol.errors import IdentifierError
from protocol.findings import FindingCode
from protocol.identifiers import ManifestId, parse_manifest_id
from protocol.receipt import ArchivedBag
from runtime.durable import (
    create_exclusive,
    make_directories,
    rename_no_replace,
    sync_directory,
    write_all,
)
from runtime.eviction import Eviction, evict
from runtime.reading import read_chunks
from server_agent.adapters.bag_errors import TagReadBackError, UnexpectedFileError
from server_agent.adapters.bag_files import digest_file, list_bag, open_inside
from server_agent.adapters.bag_verifier import verify_bag
from server_agent.archive.bag import (
    BAYWARD,
    DATA,
    ENVELOPE,
    TAG_MANIFEST,
    Bagging,
    bag_name,
    has_sm3,
    tag_files,
)
from server_agent.archive.layout import INCOMING, incoming_path
from server_agent.archive.request import BagRequest
from server_agent.archive.verification import BagReport
from server_agent.errors import BagOccupiedError, ReadBackError

_FILE_MODE: Final = 0o444
_FOLDER_MODE: Final = 0o555
_INCOMING_MODE: Final = 0o700
_DAY_MODE: Final = 0o755

# Whoever vouches for a bag vouched for it when it was admitted; in its place only damage matters.
_DAMAGE: Final = frozenset(FindingCode) - {
    FindingCode.BAG_SIGNATURE_WRONG,
    FindingCode.BAG_CERTIFICATE_WRONG,
}
# What opening says of a bag, or a file of one, that is not there or whose bytes are lost.
_LOST: Final = frozenset(
    {
        *(errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA),
        *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL),
    }
)
_STILL_USED: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR})

_log = structlog.get_logger(__name__)


def _local_now() -> datetime:
    return datetime.now().astimezone()


class BagWriter:
    """The archive's tree, as it is written. Every method blocks: call it in a thread.

    Two calls may run at the same time unless they are about the same bag.
    """

    def __init__(
        self,
        root: Path,
        *,
        organisation: str = "Bayward site",
        clock: Callable[[], datetime] = _local_now,
    ) -> None:
        """Take *root* as the archive; it is made when the first bag is.

        Args:
            root: The archive's folder; all of it on one file system.
            organisation: RFC 8493's Source-Organization: one line.
            clock: Returns the time with its zone, for the Bagging-Date.
        """
        self.root = root
        self._organisation = organisation
        self._clock = clock
        self._software = f"Bayward {version('bayward')}"

    def incoming_dir(self, manifest_id: ManifestId, group: str) -> Path:
        """Return the folder of a bag being filled, with its data/; made durably if missing.

        Payload files belong in ``data/<safe name>``, written and synced by whoever receives them.

        Args:
            manifest_id: Whose files they are.
            group: A recording's id, or layout.DOCKING.

        Raises:
            OSError: Our disk failed.
        """
        bag = self.root / incoming_path(manifest_id, group)
        make_directories(bag / DATA, mode=_INCOMING_MODE)
        return bag

    def close_bag(self, request: BagRequest) -> ArchivedBag:
        """Close a bag whose payload is complete, and return it as it stands in its place.

        Doing it again, after success or after a crash at any step, gives the same result; a bag
        that has its place already is read from the disk once more.

        Raises:
            ReadBackError: Payload files are missing, have another size, or do not read back as the
                manifest promises; they are named, and the bag stays out.
            UnexpectedFileError: Something that nobody promised lies in the bag.
            TagReadBackError: Our own tag files do not read back; trying again writes them anew.
            BagOccupiedError: What has the bag's place is another bag, or is damaged.
            OSError: Our disk failed. After a failed sync nothing was given its place.
            ValueError: Our own mistake: *request* contradicts itself.
        """
        target = self._target(request)
        if os.path.lexists(target):
            return self._archived_already(request, target)
        tags = tag_files(request, self._bagging())
        bag = self.root / incoming_path(request.manifest_id, request.group)
        with _OpenBag(bag, request) as filled:
            filled.check_payload(tags)
            filled.write_tags(tags)
            filled.seal_payload()
            filled.sync_folders()
            filled.read_back(tags)
            filled.close_inner_folders()
        make_directories(target.parent, mode=_DAY_MODE)
        try:
            rename_no_replace(bag, target)
        except FileExistsError:
            return self._archived_already(request, target)
        _close_folder(target)
        return ArchivedBag(
            recording_id=request.recording.recording_id if request.recording else None,
            path=str(request.target),
            tagmanifest_sha256=sha256_hex(tags[TAG_MANIFEST]),
            files=len(request.files),
            size_bytes=sum(bag_file.file.size_bytes for bag_file in request.files),
        )

    def stands(self, request: BagRequest) -> bool:
        """Return whether something has the bag's place."""
        return os.path.lexists(self._target(request))

    def find_damage(self, path: str, *, tagmanifest_sha256: str) -> str | None:
        """Read a bag that should stand in the archive from the disk, every byte of it.

        Args:
            path: Where, relative to the archive.
            tagmanifest_sha256: The digest that its tag manifest had.

        Returns:
            What is wrong with it, in English; None if it is what it was.

        Raises:
            OSError: The archive itself is not there, or may not be read: that says nothing about
                the bag.
        """
        self.root.stat()
        target = self.root / path
        if target.is_symlink():
            return "a link in its place"
        try:
            report = verify_bag(target, ca_pem=None)
        except OSError as error:
            if error.errno not in _LOST:
                raise
            return f"cannot be read: {error.strerror}"
        if damage := _damage(report):
            return damage
        if report.tagmanifest_sha256 != tagmanifest_sha256:
            return f"another bag in its place: its tag manifest has {report.tagmanifest_sha256}"
        return None

    def unfinished(self) -> list[ManifestId]:
        """Return the manifests that have a folder among the bags being filled, be it empty.

        Raises:
            OSError: Our disk failed.
        """
        found = [_manifest_id(one) for one in self._in_incoming()]
        return [manifest_id for manifest_id in found if manifest_id is not None]

    def strangers(self) -> list[Path]:
        """Return what lies among the bags being filled and is no manifest's folder.

        Raises:
            OSError: Our disk failed.
        """
        return [one for one in self._in_incoming() if _manifest_id(one) is None]

    def forget_incoming(self, manifest_id: ManifestId) -> None:
        """Remove the empty folders that a manifest's closed bags left; to be called when all are.

        Raises:
            OSError: Our disk failed.
        """
        manifest = self.root / INCOMING / manifest_id
        if not manifest.is_dir():
            return
        for group in manifest.iterdir():
            _remove_empty(group / DATA)
            _remove_empty(group)
        _remove_empty(manifest)

    def _in_incoming(self) -> list[Path]:
        incoming = self.root / INCOMING
        return sorted(incoming.iterdir()) if incoming.is_dir() else []

    def _bagging(self) -> Bagging:
        return Bagging(
            organisation=self._organisation, software=self._software, closed_at=self._clock()
        )

    def _target(self, request: BagRequest) -> Path:
        target = request.target
        if target.is_absolute() or ".." in target.parts or target.name != bag_name(request):
            raise ValueError(f"{str(target)!r} is no place for the bag {bag_name(request)}")
        return self.root / target

    def _archived_already(self, request: BagRequest, target: Path) -> ArchivedBag:
        """Return the bag that has the place, if it is this one and every byte of it is right."""
        if target.is_symlink() or not target.is_dir():
            raise BagOccupiedError(request.target, problem="no folder")
        # First what costs nothing: whoever names a large bag's place must not have it read.
        if _envelope_of(target, at_most_bytes=len(request.envelope)) != request.envelope:
            raise BagOccupiedError(request.target, problem="the bag of another manifest, or none")
        report = verify_bag(target, ca_pem=None)
        damage = _damage(report)
        if damage or report.tagmanifest_sha256 is None:
            problem = f"in its place, and damaged: {damage or 'no tag manifest'}"
            raise BagOccupiedError(request.target, problem=problem)
        # The rename may be the last thing that the crash let happen.
        sync_directory(target.parent)
        _close_folder(target)
        return ArchivedBag(
            recording_id=request.recording.recording_id if request.recording else None,
            path=str(request.target),
            tagmanifest_sha256=report.tagmanifest_sha256,
            files=report.files,
            size_bytes=report.size_bytes,
        )


def _manifest_id(folder: Path) -> ManifestId | None:
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        return parse_manifest_id(folder.name)
    except IdentifierError:
        return None


class _OpenBag:
    """A bag in .incoming while it is closed: the steps 1 to 5 of the module's list."""

    def __init__(self, bag: Path, request: BagRequest) -> None:
        self._bag = bag
        self._request = request
        self._name = incoming_path(request.manifest_id, request.group)
        self._fd = -1
        self._unproved_files = 0

    def __enter__(self) -> Self:
        # An earlier run may have closed the inner folders before it stopped.
        for folder in (self._bag, self._bag / DATA, self._bag / BAYWARD):
            make_directories(folder, mode=_INCOMING_MODE)
            folder.chmod(_INCOMING_MODE)
        self._fd = os.open(self._bag, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def check_payload(self, tags: Mapping[str, bytes]) -> None:
        found = list_bag(self._fd)
        promised = {
            f"{DATA}/{bag_file.safe_name}": bag_file.file.size_bytes
            for bag_file in self._request.files
        }
        unexpected = found.sizes_bytes.keys() - promised.keys() - tags.keys()
        unexpected |= found.irregular.keys()
        if unexpected or found.cut_short:
            raise UnexpectedFileError(self._name, untrusted_paths=sorted(unexpected))
        wrong = [
            path.removeprefix(f"{DATA}/")
            for path, size_bytes in promised.items()
            if found.sizes_bytes.get(path) != size_bytes
        ]
        if wrong:
            raise ReadBackError(self._name, safe_names=wrong)

    def write_tags(self, tags: Mapping[str, bytes]) -> None:
        for name, content in tags.items():
            path = self._bag / name
            path.unlink(missing_ok=True)
            fd = create_exclusive(path.parent, path.name)
            try:
                write_all(fd, content)
                _seal_file(fd)
            finally:
                os.close(fd)

    def seal_payload(self) -> None:
        for bag_file in self._request.files:
            fd = open_inside(self._fd, f"{DATA}/{bag_file.safe_name}")
            try:
                _seal_file(fd)
            finally:
                os.close(fd)

    def sync_folders(self) -> None:
        for folder in (self._bag / DATA, self._bag / BAYWARD, self._bag):
            sync_directory(folder)

    def read_back(self, tags: Mapping[str, bytes]) -> None:
        with_sm3 = has_sm3(self._request)
        wrong = [
            bag_file.safe_name
            for bag_file in self._request.files
            if not _same(
                self._digests(f"{DATA}/{bag_file.safe_name}", with_sm3=with_sm3),
                bag_file.file.digests,
                with_sm3=with_sm3,
            )
        ]
        if wrong:
            raise ReadBackError(self._name, safe_names=wrong)
        wrong_tags = [
            name
            for name, content in tags.items()
            if self._digests(name, with_sm3=False).sha256 != sha256_hex(content)
        ]
        if wrong_tags:
            raise TagReadBackError(self._name, tags=wrong_tags)
        if self._unproved_files:
            _log.warning(
                "read_back_not_proved", bag=str(self._name), from_memory=self._unproved_files
            )

    def close_inner_folders(self) -> None:
        for folder in (self._bag / DATA, self._bag / BAYWARD):
            _close_folder(folder)

    def _digests(self, path: str, *, with_sm3: bool) -> Digests:
        fd = open_inside(self._fd, path)
        try:
            if evict(fd, size_bytes=os.fstat(fd).st_size) is not Eviction.PROVED:
                self._unproved_files += 1
            return digest_file(fd, with_sm3=with_sm3)
        finally:
            os.close(fd)


def _damage(report: BagReport) -> str | None:
    found = [one for one in report.findings if one.code in _DAMAGE]
    return f"{found[0].code.value} {found[0].path}" if found else None


def _envelope_of(bag: Path, *, at_most_bytes: int) -> bytes | None:
    """Return the envelope in a bag; None if it is not there, or longer than asked for."""
    bag_fd = os.open(bag, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fd = open_inside(bag_fd, ENVELOPE)
    except OSError as error:
        if error.errno not in _LOST:
            raise
        return None
    finally:
        os.close(bag_fd)
    try:
        if os.fstat(fd).st_size > at_most_bytes:
            return None
        return b"".join(map(bytes, read_chunks(fd)))
    finally:
        os.close(fd)


def _same(read: Digests, promised: Digests, *, with_sm3: bool) -> bool:
    return read.sha256 == promised.sha256 and (not with_sm3 or read.sm3 == promised.sm3)


def _seal_file(fd: int) -> None:
    os.fchmod(fd, _FILE_MODE)
    os.fsync(fd)  # not fdatasync: the mode is to last as well


def _close_folder(folder: Path) -> None:
    folder.chmod(_FOLDER_MODE)
    sync_directory(folder)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in _STILL_USED:
            raise
