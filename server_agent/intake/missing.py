"""Which bytes the archive still needs, given what it holds of the same recorder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from protocol.identifiers import OfficerId
from protocol.manifest import Manifest, Recording, StagedFile
from protocol.receipt import MissingFile
from server_agent.intake.states import FileState


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What goes into one bag: a recording's clips, or (None) the other files of a manifest."""

    recording: Recording | None
    files: tuple[StagedFile, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingKey:
    """What makes two recordings of one recorder the same, beside their clips."""

    started: datetime | None
    recorded_on: date
    officer: OfficerId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedFile:
    """A file of a bag of the recorder that is being looked at; ``position`` counts from 0."""

    position: int
    sha256: str
    sm3: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedGroup:
    """What a bag was made for, as far as it was asked for.

    Attributes:
        bag_id: The bag.
        count: How many files it has; *files* may be fewer.
        recording: None for the bag of a docking's other files.
        files: Those of its files that were asked for, by SHA-256.
    """

    bag_id: int
    count: int
    recording: RecordingKey | None
    files: Mapping[str, ArchivedFile]


def groups_of(manifest: Manifest) -> tuple[Group, ...]:
    """Return what becomes bags of a manifest, in its order."""
    recordings = tuple(
        Group(recording=one, files=tuple(clip.file for clip in one.clips))
        for one in manifest.recordings
    )
    if not manifest.other_files:
        return recordings
    return (*recordings, Group(recording=None, files=manifest.other_files))


def recording_key(manifest: Manifest, recording: Recording) -> RecordingKey:
    """Return what makes a recording of *manifest* the same as another, beside its clips."""
    return RecordingKey(
        started=recording.started,
        recorded_on=recording.recorded_on,
        officer=recording.officer or manifest.officer,
    )


def find_match(
    group: Group, key: RecordingKey | None, archived: Iterable[ArchivedGroup]
) -> int | None:
    """Return the bag that *group* need not be archived beside; of several, the oldest.

    A recording is only ever the same as a recording with the same clips in the same order, of the
    same time, day and officer: somebody else's bag of equal bytes does not stand in for it. Other
    files are the same as other files of a bag that has them all.

    Args:
        group: With at least one file.
        key: The recording's; None for other files.
        archived: What is archived of the same recorder; more than asked for does no harm.

    Returns:
        The bag's number. None unless one bag has them all: nothing is pieced together.
    """
    fitting = (one.bag_id for one in archived if one.recording == key and _holds(one, group))
    return min(fitting, default=None)


def _holds(archived: ArchivedGroup, group: Group) -> bool:
    if group.recording is not None and archived.count != len(group.files):
        return False
    for position, file in enumerate(group.files):
        found = archived.files.get(file.digests.sha256)
        if found is None or found.size_bytes != file.size_bytes:
            return False
        if None not in (found.sm3, file.digests.sm3) and found.sm3 != file.digests.sm3:
            return False
        if group.recording is not None and found.position != position:
            return False
    return True


def missing_files(
    files: Iterable[StagedFile], states: Mapping[str, FileState]
) -> tuple[MissingFile, ...]:
    """Return what a dock has to send of *files*, in their order.

    Args:
        files: What a manifest promises.
        states: Where each file stands, by SHA-256; one without a state is missing.
    """
    return tuple(
        MissingFile(sha256=file.digests.sha256, size_bytes=file.size_bytes)
        for file in files
        if states.get(file.digests.sha256, FileState.MISSING) is FileState.MISSING
    )
