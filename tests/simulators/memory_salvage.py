"""Parts of files in memory, which forget what was not synced."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from edge_agent.ingest.files import FileId


@dataclass(slots=True, kw_only=True)
class MemorySalvage:
    """Keeps the contract of `SalvageStaging`.

    Attributes:
        changing: Whether the disk gives back other bytes than it was given.
        kept: What was synced; holes are zeros.
    """

    changing: bool = False
    kept: dict[FileId, bytes] = field(default_factory=dict)
    orphaned: dict[FileId, bytes] = field(default_factory=dict)

    def open(self, file_id: FileId) -> "MemorySalvageSlot":
        return MemorySalvageSlot(self, file_id)

    def remove(self, file_id: FileId) -> None:
        self.kept.pop(file_id, None)

    def sweep(
        self, with_parts: Collection[FileId], known: Collection[FileId]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        strange = sorted(self.kept.keys() - set(with_parts))
        removed = tuple(f"salvaged/{one}" for one in strange if one in known)
        aside = tuple(f"salvaged/{one}" for one in strange if one not in known)
        for file_id in strange:
            content = self.kept.pop(file_id)
            if file_id not in known:
                self.orphaned[file_id] = content
        return removed, aside


class MemorySalvageSlot:
    """Keeps the contract of `SalvageSlot`."""

    def __init__(self, salvage: MemorySalvage, file_id: FileId) -> None:
        self._salvage = salvage
        self._file_id = file_id
        self._content = bytearray(salvage.kept.get(file_id, b""))

    def write_at(self, offset_bytes: int, part: bytes) -> None:
        end_bytes = offset_bytes + len(part)
        self._content += bytes(max(0, end_bytes - len(self._content)))
        self._content[offset_bytes:end_bytes] = part

    def sync(self) -> None:
        if self._salvage.changing:
            self._content[-1] ^= 1
        self._salvage.kept[self._file_id] = bytes(self._content)

    def stored(self, offset_bytes: int, size_bytes: int) -> Iterator[bytes]:
        part = bytes(self._content[offset_bytes : offset_bytes + size_bytes])
        if part:
            yield part

    def close(self) -> None:
        """Nothing is open."""
