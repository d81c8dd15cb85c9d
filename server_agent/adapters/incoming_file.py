"""One file of the archive while its bytes arrive: hashed as they are written, told when durable.

Every method blocks. `append` is meant for the event loop (a thread would cost more than the page
cache does), all others for a thread. One caller at a time, but for `sync`, which may run beside
`append`.
"""

import os
import stat
from pathlib import Path
from typing import Final

from protocol.digest import Digests, StreamDigest
from runtime.durable import (
    create_exclusive,
    extend_reservation,
    sync_directory,
    sync_file,
    write_all,
)
from runtime.reading import read_chunks

_MODE: Final = 0o600


class IncomingFile:
    """An open file that grows at its end; from `create` or `resume`.

    Attributes:
        received_bytes: How much was written, and hashed.
        synced_bytes: How much of it survives a power cut.
        reserved_bytes: Up to where the disk has room set aside.
    """

    def __init__(self, path: Path, fd: int, digest: StreamDigest) -> None:
        self.path = path
        self.received_bytes = self.synced_bytes = self.reserved_bytes = digest.size_bytes
        self._fd = fd
        self._digest = digest

    @classmethod
    def create(cls, path: Path, *, with_sm3: bool) -> "IncomingFile":
        """Create an empty file, its name durable; no space is reserved for it.

        Raises:
            FileExistsError: Its name is taken.
            OSError: Our disk failed.
        """
        fd = create_exclusive(path.parent, path.name, preallocate_bytes=0, mode=_MODE)
        try:
            sync_directory(path.parent)
        except OSError:
            os.close(fd)
            raise
        return cls(path, fd, StreamDigest(with_sm3=with_sm3))

    @classmethod
    def resume(cls, path: Path, *, with_sm3: bool) -> "IncomingFile | None":
        """Open what an earlier run received, make it durable, and hash it again.

        A file without write bits had arrived once, was closed into a bag that did not read back,
        and has to come again: it is removed.

        Returns:
            None if there is no such file.

        Raises:
            OSError: Our disk failed; the file was removed, for asking again could be answered
                wrongly.
        """
        try:
            if not path.lstat().st_mode & stat.S_IWUSR:
                path.unlink()
                return None
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        digest = StreamDigest(with_sm3=with_sm3)
        try:
            sync_file(fd)
            for chunk in read_chunks(fd):
                digest.update(chunk)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return cls(path, fd, digest)

    def reserve(self, size_bytes: int) -> None:
        """Set room aside so that the file can have *size_bytes*; its length stays.

        Raises:
            OSError: Our disk failed; with ENOSPC the room is not there.
        """
        extend_reservation(self._fd, size_bytes)
        self.reserved_bytes = size_bytes

    def release(self) -> None:
        """Give back the room that was set aside and not used.

        Raises:
            OSError: Our disk failed.
        """
        if self.reserved_bytes > self.received_bytes:
            os.ftruncate(self._fd, self.received_bytes)
            self.reserved_bytes = self.received_bytes

    def append(self, chunk: bytes) -> None:
        """Write *chunk* at the end.

        Raises:
            OSError: Our disk failed; a part may have been written. Close the file: `resume` knows.
        """
        write_all(self._fd, chunk)
        self._digest.update(chunk)
        self.received_bytes += len(chunk)

    def sync(self) -> None:
        """Make durable what has been received when this is called.

        Raises:
            OSError: Nobody knows what is on the disk, and asking again would be answered wrongly:
                discard the file.
        """
        received_bytes = self.received_bytes
        if received_bytes > self.synced_bytes:
            sync_file(self._fd)
            self.synced_bytes = received_bytes

    def cut(self, size_bytes: int) -> None:
        """Drop what was received beyond *size_bytes*, and close: the digest has to be made anew.

        Raises:
            OSError: Our disk failed.
        """
        try:
            os.ftruncate(self._fd, size_bytes)
            sync_file(self._fd)
        finally:
            self.close()

    def digests(self) -> Digests:
        """Return what the received bytes hash to."""
        return self._digest.digests()

    def discard(self) -> None:
        """Close and remove the file.

        Raises:
            OSError: Our disk failed.
        """
        self.close()
        self.path.unlink(missing_ok=True)
        sync_directory(self.path.parent)

    def close(self) -> None:
        """Close the file; what was received stays. Nothing if it is closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
