"""Verify bags as they stand on a disk: one, a day's, or a whole archive's.

Everything read here may have been made to deceive. No path that a file names is ever opened: only
files that were found in the bag's folder are, without following links.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from protocol.digest import Digests, sha256_hex
from protocol.findings import FindingCode
from runtime.eviction import Eviction, evict
from runtime.reading import read_chunks
from server_agent.adapters.bag_files import digest_file, list_bag, open_inside
from server_agent.archive.bag import DATA, DECLARATION, MANIFEST_SHA256, TAG_MANIFEST
from server_agent.archive.contents import BagContents
from server_agent.archive.layout import CUSTODY, INCOMING, is_bag_name
from server_agent.archive.provenance import judge_provenance
from server_agent.archive.verification import (
    MAX_OTHER_TAG_BYTES,
    MAX_TAG_BYTES,
    BagReport,
    Claims,
    Found,
    Tags,
    Unread,
    finding,
    judge_files,
    read_claims,
)

T = TypeVar("T")

# What reading says of bytes that are lost, or of a file that was taken away under our eyes.
# Anything else, such as a right that we lack, says nothing about the bag and stops us.
_LOST: Final = frozenset(
    {
        *(errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA),
        *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL),
    }
)
_BAG_MARKS: Final = frozenset({DECLARATION, MANIFEST_SHA256, TAG_MANIFEST})
# At the root of an archive: bags being filled, the custody log, and what ext4 puts there.
_NOT_ARCHIVED: Final = frozenset({INCOMING, CUSTODY, "lost+found"})
_MAX_DEPTH: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one bag has been read; ``file`` is its path in the bag."""

    bag: str
    file: str
    done_bytes: int
    total_bytes: int


def verify_path(
    path: Path, *, ca_pem: bytes | None, on_progress: Callable[[Progress], None] | None = None
) -> Iterator[BagReport]:
    """Verify every bag at or below *path*, in the order of their names.

    What stands between the bags and is none is reported as well. To sum up, use Tally: no report
    at all is no success.

    Args:
        path: A bag, a day, or an archive.
        ca_pem: The site's authority, from a source that can be trusted; None to take the one in
            each bag, which proves only that the bag agrees with itself.
        on_progress: Called after each piece that was read.

    Raises:
        OSError: *path* is no folder, or a file may not be read. Lost bytes are findings.
    """
    yield from _verify_below(path, ca_pem, on_progress, depth=0)


def verify_bag(
    bag: Path, *, ca_pem: bytes | None, on_progress: Callable[[Progress], None] | None = None
) -> BagReport:
    """Verify the one bag in the folder *bag*, whatever is in it.

    Args and Raises: as for `verify_path`.
    """
    bag_fd = os.open(bag, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _judge(_BagReader(bag, bag_fd, on_progress), ca_pem)
    finally:
        os.close(bag_fd)


def _verify_below(
    folder: Path,
    ca_pem: bytes | None,
    on_progress: Callable[[Progress], None] | None,
    *,
    depth: int,
) -> Iterator[BagReport]:
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    marks = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    if is_bag_name(folder.name) or not marks.isdisjoint(_BAG_MARKS):
        yield verify_bag(folder, ca_pem=ca_pem, on_progress=on_progress)
        return
    for entry in entries:
        if depth == 0 and entry.name in _NOT_ARCHIVED:
            continue
        if entry.is_dir(follow_symlinks=False) and depth < _MAX_DEPTH:
            yield from _verify_below(Path(entry.path), ca_pem, on_progress, depth=depth + 1)
        else:
            yield _stray(entry)


def _stray(entry: os.DirEntry[str]) -> BagReport:
    code = FindingCode.BAG_UNSAFE_PATH if entry.is_symlink() else FindingCode.BAG_FILE_EXTRA
    found = finding(code, entry.name, "stands in the archive and is in no bag")
    return BagReport(path=entry.path, findings=(found,), is_bag=False)


def _judge(reader: "_BagReader", ca_pem: bytes | None) -> BagReport:
    tags, claims = reader.read_tags()
    provenance = judge_provenance(
        tags, claims, authority_pem=ca_pem, location=Path(os.path.realpath(reader.path)).parts
    )
    payload = reader.read_payload(claims, provenance.contents)
    judged = judge_files(claims, reader.found, tags, payload)
    changed = {found.path for found in judged}
    good = [path for path in payload if path not in changed]
    manifest, contents = provenance.manifest, provenance.contents
    return BagReport(
        path=str(reader.path),
        findings=(*claims.findings, *judged, *provenance.findings),
        files=len(good),
        size_bytes=sum(reader.found.sizes_bytes[path] for path in good),
        tagmanifest_sha256=tags.digests_sha256.get(TAG_MANIFEST),
        manifest_id=manifest.manifest_id if manifest else None,
        recording_id=contents.recording.recording_id if contents and contents.recording else None,
        dock=manifest.dock if manifest else None,
        anchored=ca_pem is not None,
        from_disk=reader.from_disk,
    )


class _BagReader:
    """Reads one bag's files, each from the disk as far as that can be had."""

    def __init__(
        self, path: Path, bag_fd: int, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.path = path
        self.found: Found = list_bag(bag_fd)
        self.from_disk = True
        self._bag_fd = bag_fd
        self._on_progress = on_progress
        self._done_bytes = 0
        self._total_bytes = sum(
            size for name, size in self.found.sizes_bytes.items() if name.startswith(f"{DATA}/")
        )

    def read_tags(self) -> tuple[Tags, Claims]:
        digests: dict[str, str] = {}
        content: dict[str, bytes] = {}
        unread: dict[str, Unread] = {}
        tags = Tags(digests_sha256=digests, content=content, unread=unread)
        known = MAX_TAG_BYTES.keys() & self.found.sizes_bytes.keys()
        for path in sorted(known):
            self._read_tag(path, MAX_TAG_BYTES[path], digests, unread, content)
        claims = read_claims(tags)
        others = (claims.tags_sha256.keys() & self.found.sizes_bytes.keys()) - known
        for path in sorted(others):
            self._read_tag(path, MAX_OTHER_TAG_BYTES, digests, unread, {})
        return tags, claims

    def read_payload(
        self, claims: Claims, contents: BagContents | None
    ) -> dict[str, Digests | Unread]:
        promised = {f"{DATA}/{file.stored_as}": file for file in contents.files} if contents else {}
        listed = claims.sha256.keys() | (claims.sm3 or {}).keys()
        read: dict[str, Digests | Unread] = {}
        for path in sorted(listed & self.found.sizes_bytes.keys()):
            size_bytes = self.found.sizes_bytes[path]
            if path in promised and size_bytes > promised[path].size_bytes:
                # Not hashed: the size decides already, and a sparse file's may be anything.
                detail = f"{size_bytes} bytes, {promised[path].size_bytes} were promised"
                read[path] = Unread(code=FindingCode.BAG_DIGEST_DIFFERS, detail=detail)
            else:
                read[path] = self._digest(path, with_sm3=claims.sm3 is not None)
        return read

    def _read_tag(
        self,
        path: str,
        limit_bytes: int,
        digests: dict[str, str],
        unread: dict[str, Unread],
        content: dict[str, bytes],
    ) -> None:
        size_bytes = self.found.sizes_bytes[path]
        if size_bytes > limit_bytes:
            detail = f"{size_bytes} bytes, at most {limit_bytes} are read"
            unread[path] = Unread(code=FindingCode.BAG_TAG_MALFORMED, detail=detail)
            return
        read = self._read(path, lambda fd: b"".join(map(bytes, read_chunks(fd))))
        if isinstance(read, Unread):
            unread[path] = read
        else:
            content[path] = read
            digests[path] = sha256_hex(read)

    def _digest(self, path: str, *, with_sm3: bool) -> Digests | Unread:
        def tell(size_bytes: int) -> None:
            self._tell(path, size_bytes)

        return self._read(path, lambda fd: digest_file(fd, with_sm3=with_sm3, on_chunk=tell))

    def _read(self, path: str, reader: Callable[[int], T]) -> T | Unread:
        try:
            fd = open_inside(self._bag_fd, path)
            try:
                evicted = evict(fd, size_bytes=self.found.sizes_bytes[path])
                self.from_disk = self.from_disk and evicted is Eviction.PROVED
                return reader(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in _LOST:
                raise
            detail = f"cannot be read: {error.strerror}"
            return Unread(code=FindingCode.BAG_FILE_MISSING, detail=detail)

    def _tell(self, path: str, size_bytes: int) -> None:
        self._done_bytes += size_bytes
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    bag=str(self.path),
                    file=path,
                    done_bytes=self._done_bytes,
                    total_bytes=self._total_bytes,
                )
            )
