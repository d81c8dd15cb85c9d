"""Which bytes the archive still needs, given what it holds of the same recorder."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
class ArchivedFile:
    """A file that stands in a bag, read back; of the recorder that is being looked at."""

    bag_id: int
    safe_name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingBag:
    """A bag that already holds every file of a group, and their names below its data/."""

    bag_id: int
    safe_names: Mapping[str, str]


def groups_of(manifest: Manifest) -> tuple[Group, ...]:
    """Return what becomes bags of a manifest, in its order."""
    recordings = tuple(
        Group(recording=one, files=tuple(clip.file for clip in one.clips))
        for one in manifest.recordings
    )
    if not manifest.other_files:
        return recordings
    return (*recordings, Group(recording=None, files=manifest.other_files))


def find_existing_bag(group: Group, archived: Iterable[ArchivedFile]) -> ExistingBag | None:
    """Return a bag that holds all files of *group*, by digest and size; of several, the oldest.

    Args:
        group: With at least one file.
        archived: What is archived of the same recorder; more than asked for does no harm.

    Returns:
        None unless one bag has them all: a recording is never pieced together from several.
    """
    wanted = {(file.digests.sha256, file.size_bytes) for file in group.files}
    bags: dict[int, dict[tuple[str, int], str]] = defaultdict(dict)
    for one in archived:
        bags[one.bag_id][one.sha256, one.size_bytes] = one.safe_name
    for bag_id, content in sorted(bags.items()):
        if wanted <= content.keys():
            return ExistingBag(
                bag_id=bag_id, safe_names={digest: content[digest, size] for digest, size in wanted}
            )
    return None


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
