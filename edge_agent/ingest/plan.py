"""What to read from a recorder, in which order, and what need not be read again."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from edge_agent.ingest.files import FileKey, FileRow, FileState
from edge_agent.ingest.grouping import ClipGroup
from edge_agent.ingest.inventory import FoundClip, FoundFile
from edge_agent.ingest.room import Need, Room


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep:
    """One file to be read.

    Attributes:
        row: What an earlier docking left of it, if it did.
        marked: The officer marked this clip.
    """

    key: FileKey
    row: FileRow | None
    marked: bool

    @property
    def missing_bytes(self) -> int:
        """How much of it is not on our disk yet."""
        return self.key.size_bytes - (self.row.verified_bytes if self.row else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one docking is going to do.

    Attributes:
        steps: In order; all of them together fit.
        no_space: What does not fit on our disk; a recording fits whole or not at all.
        waits_for: What is taken first when there is room for it.
        lacking_files: How many more files the disk would have to take, whatever their size.
    """

    steps: tuple[CopyStep, ...]
    no_space: tuple[CopyStep, ...]
    waits_for: Need | None = None
    lacking_files: int = 0

    @property
    def total_bytes(self) -> int:
        """The sizes of all steps, those parts included that an earlier docking left."""
        return sum(step.key.size_bytes for step in self.steps)

    @property
    def missing_bytes(self) -> int:
        """How much room the steps take."""
        return sum(step.missing_bytes for step in self.steps)

    @property
    def lacking_bytes(self) -> int:
        """How much more room would let everything in."""
        return sum(step.missing_bytes for step in self.no_space)

    @property
    def lacking(self) -> "Lacking":
        """What there was no room for."""
        return Lacking(
            files=len(self.no_space),
            size_bytes=self.lacking_bytes,
            inodes=self.lacking_files,
            waits_for=self.waits_for,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """What there was no room for on our disk.

    Attributes:
        inodes: How many more files the disk would have to take, whatever their size.
        waits_for: What is taken first when there is room for it.
    """

    files: int = 0
    size_bytes: int = 0
    inodes: int = 0
    waits_for: Need | None = None

    def and_also(self, more: "Lacking") -> "Lacking":
        """Return both together; what was to be taken first stays so."""
        return Lacking(
            files=self.files + more.files,
            size_bytes=self.size_bytes + more.size_bytes,
            inodes=self.inodes + more.inodes,
            waits_for=self.waits_for or more.waits_for,
        )

    @property
    def text(self) -> str:
        """The same in English."""
        text = f"{self.files} files wait for room: {self.size_bytes} bytes"
        if self.inodes:
            text += f", and the disk has too few inodes for {self.inodes} of them"
        return text


def make_plan(
    groups: Iterable[ClipGroup],
    others: Iterable[FoundFile],
    rows: Mapping[FileKey, FileRow],
    *,
    room: Room,
    absent: Collection[FileKey] = (),
) -> Plan:
    """Return the steps: marked recordings first, then oldest first, then other files.

    Args:
        groups: Oldest first.
        others: Files that are no clips.
        rows: What the journal has of this recorder.
        room: On our disk, less what others were allotted.
        absent: What is not on the recorder.
    """
    ordered = sorted(groups, key=lambda group: not group.marked)
    units = [
        *([(clip.key, clip.marked) for clip in _marked_first(group)] for group in ordered),
        *([(file.key, False)] for file in others),
    ]
    steps: list[CopyStep] = []
    no_space: list[CopyStep] = []
    refused: list[Need] = []
    for unit in units:
        wanted = [
            CopyStep(key=key, row=rows.get(key), marked=marked)
            for key, marked in unit
            if key not in absent and _is_wanted(rows.get(key))
        ]
        if not wanted:
            continue
        need = _need(wanted, marked=any(marked for _, marked in unit))
        if room.holds(need):
            steps += wanted
            room = room.less(need)
        else:
            no_space += wanted
            refused.append(need)
    lacking_files = sum(need.files for need in refused) - room.free_files
    return Plan(
        steps=tuple(steps),
        no_space=tuple(no_space),
        waits_for=next(iter(refused), None),
        lacking_files=max(0, lacking_files),
    )


def _need(wanted: Collection[CopyStep], *, marked: bool) -> Need:
    """Return what files that are taken together need; what was begun has its file already."""
    return Need(
        size_bytes=sum(step.missing_bytes for step in wanted),
        files=sum(step.row is None or not step.row.verified_bytes for step in wanted),
        marked=marked,
    )


def _marked_first(group: ClipGroup) -> list[FoundClip]:
    """Return the clips in order, in each place the marked copy before the unmarked clip."""
    return [
        clip
        for slot in group.slots
        for clip in sorted(slot.candidates, key=lambda clip: not clip.marked)
    ]


def _is_wanted(row: FileRow | None) -> bool:
    return row is None or row.state is FileState.COPYING
