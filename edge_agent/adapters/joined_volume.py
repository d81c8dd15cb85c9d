"""Several volumes of one recorder as one: what is on the second is below ``volume-2``, and so on.

The first is the largest and stands for itself, so that a model's rules fit it. What else a recorder
shows is taken like any other file, and nothing is left behind.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from edge_agent.adapters.directory_volume import DirectoryVolume
from edge_agent.ingest.volume import EntryKind, RawEntry, SourceFile


class JoinedVolume:
    """The volumes; keeps the contract of `Volume`. To be used in one thread at a time."""

    def __init__(self, volumes: Sequence[DirectoryVolume]) -> None:
        self._volumes = {_folder(number): volume for number, volume in enumerate(volumes, start=1)}

    @classmethod
    @contextlib.contextmanager
    def mount(
        cls, roots: Sequence[Path], *, read_limit_bytes_s: int | None = None
    ) -> Iterator[Self]:
        """Open the folders, at least one, the main one first.

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
                ]
            )

    def entries(self) -> Iterator[RawEntry]:
        """List all volumes, one after the other."""
        for folder, volume in self._volumes.items():
            if folder:
                yield RawEntry(path=folder, kind=EntryKind.DIRECTORY)
            for entry in volume.entries():
                yield RawEntry(
                    path=folder + b"/" + entry.path if folder else entry.path,
                    kind=entry.kind,
                    size_bytes=entry.size_bytes,
                    mtime_ns=entry.mtime_ns,
                    node=entry.node,
                )

    def read_small(self, path: bytes, *, max_bytes: int) -> bytes:
        """Return the whole of a small file."""
        volume, inner = self._find(path)
        return volume.read_small(inner, max_bytes=max_bytes)

    def open(self, path: bytes) -> contextlib.AbstractContextManager[SourceFile]:
        """Open a regular file."""
        volume, inner = self._find(path)
        return volume.open(inner)

    def _find(self, path: bytes) -> tuple[DirectoryVolume, bytes]:
        number, inner = split_path(path, len(self._volumes))
        return self._volumes[_folder(number)], inner


def split_path(path: bytes, volumes: int) -> tuple[int, bytes]:
    """Return on which of so many volumes a path is, from 1 on, and where there."""
    folder, _, inner = path.partition(b"/")
    for number in range(2, volumes + 1):
        if folder == _folder(number) and inner:
            return number, inner
    return 1, path


def _folder(number: int) -> bytes:
    return b"" if number == 1 else b"volume-%d" % number
