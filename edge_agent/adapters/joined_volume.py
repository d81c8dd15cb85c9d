"""Several volumes of one recorder as one: what is on the second is below ``volume-2``, and so on.

The first is the largest and stands for itself, so that a model's rules fit it. What else a recorder
shows is taken like any other file, and nothing is left behind: what the first has in its root under
a name of that kind is below ``volume-1``, so that no two files have one path.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.errors import SourceUnreadableError
from edge_agent.ingest.volume import EntryKind, RawEntry, SourceFile


class JoinedVolume:
    """The volumes; keeps the contract of `Volume`. To be used in one thread at a time."""

    def __init__(self, volumes: Sequence[DirectoryVolume], *, left_out: int = 0) -> None:
        self._volumes = volumes
        self._total = len(volumes) + left_out

    @classmethod
    @contextlib.contextmanager
    def mount(
        cls, roots: Sequence[Path], *, left_out: int = 0, read_limit_bytes_s: int | None = None
    ) -> Iterator[Self]:
        """Open the folders, at least one, the main one first.

        Args:
            roots: Not links.
            left_out: How many volumes there are beside them that cannot be read: listed as that.
            read_limit_bytes_s: See `DirectoryVolume.mount`.

        Raises:
            SourceVanishedError: One of them is not there.
        """
        with contextlib.ExitStack() as stack:
            yield cls(
                [
                    stack.enter_context(
                        DirectoryVolume.mount(root, read_limit_bytes_s=read_limit_bytes_s)
                    )
                    for root in roots
                ],
                left_out=left_out,
            )

    def entries(self) -> Iterator[RawEntry]:
        """List all volumes, one after the other."""
        has_folder_1 = False
        for number, volume in enumerate(self._volumes, start=1):
            if number > 1:
                yield RawEntry(path=_folder(number), kind=EntryKind.DIRECTORY)
            for entry in volume.entries():
                path = join_path(number, entry.path, self._total)
                if number == 1 and path != entry.path and not has_folder_1:
                    yield RawEntry(path=_folder(1), kind=EntryKind.DIRECTORY)
                    has_folder_1 = True
                yield entry if path == entry.path else replace(entry, path=path)
        for number in range(len(self._volumes) + 1, self._total + 1):
            yield RawEntry(path=_folder(number), kind=EntryKind.UNREADABLE_DIRECTORY)

    def read_small(self, path: bytes, *, max_bytes: int) -> bytes:
        """Return the whole of a small file."""
        volume, inner = self._find(path)
        return volume.read_small(inner, max_bytes=max_bytes)

    def open(self, path: bytes) -> contextlib.AbstractContextManager[SourceFile]:
        """Open a regular file."""
        volume, inner = self._find(path)
        return volume.open(inner)

    def _find(self, path: bytes) -> tuple[DirectoryVolume, bytes]:
        number, inner = split_path(path, self._total)
        if number > len(self._volumes):
            raise SourceUnreadableError(f"{path!r}: its volume cannot be read")
        return self._volumes[number - 1], inner


def join_path(number: int, inner: bytes, volumes: int) -> bytes:
    """Return the path of what is on one of so many volumes: no other file has it."""
    if number == 1 and _whose_folder(inner, volumes) is None:
        return inner
    return _folder(number) + b"/" + inner


def split_path(path: bytes, volumes: int) -> tuple[int, bytes]:
    """Return on which of so many volumes a path is, from 1 on, and where there."""
    folder, _, inner = path.partition(b"/")
    number = _whose_folder(path, volumes)
    if number is None or not inner or folder != _folder(number):
        return 1, path
    return number, inner


def _whose_folder(path: bytes, volumes: int) -> int | None:
    """Return whose folder a path begins with, as a file system compares names; None: nobody's."""
    if volumes == 1:
        return None
    # FAT and exFAT know no case, and no dots or spaces at the end.
    name = path.partition(b"/")[0].decode(errors="surrogateescape").casefold().rstrip(". ")
    numbers = (one for one in range(1, volumes + 1) if name == _folder(one).decode())
    return next(numbers, None)


def _folder(number: int) -> bytes:
    return b"volume-%d" % number
