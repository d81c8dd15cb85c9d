"""Where a bag stands in the archive: docs/architecture.md, 'The archive's tree'."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import PurePosixPath
from typing import Final

from protocol.identifiers import UUID7_PATTERN, DockingId, ManifestId, RecordingId
from server_agent.archive.names import SUBSTITUTE, is_safe_name

INCOMING: Final = ".incoming"
CUSTODY: Final = "custody"
UNFILED: Final = "_unfiled"
DOCKING: Final = "_docking"

_UUID_CHARACTERS: Final = 36
_UUID7: Final = re.compile(UUID7_PATTERN)
_PART: Final = re.compile(r"(?:-[1-9][0-9]*)?")
_DAY: Final = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}")


def bag_path(recorded_on: date, case: str | None, recording_id: RecordingId) -> PurePosixPath:
    """Return where the bag of a recording stands, relative to the archive.

    Args:
        recorded_on: The recording's local date.
        case: A case's folder name, already safe; None for the queue of unfiled recordings.
        recording_id: The bag's own folder.

    Raises:
        ValueError: Our own mistake: *case* is no safe name, or is one of our own folders'.
    """
    if case is not None and (case.startswith(SUBSTITUTE) or not is_safe_name(case)):
        raise ValueError(f"{case!r} is not a folder name for a case")
    return _day_path(recorded_on) / (case or UNFILED) / recording_id


def docking_bag_path(docked_on: date, docking_id: DockingId, part: int) -> PurePosixPath:
    """Return where the bag of a docking's other files stands, relative to the archive.

    Args:
        docked_on: The dock's local date when the recorder came.
        docking_id: The docking.
        part: Which of its manifests, >= 1.
    """
    return _day_path(docked_on) / DOCKING / docking_bag_name(docking_id, part)


def docking_bag_name(docking_id: DockingId, part: int) -> str:
    """Return the folder name of the bag of a docking's other files."""
    return f"{docking_id}-{part}"


def incoming_path(manifest_id: ManifestId, group: str) -> PurePosixPath:
    """Return where a bag is filled, relative to the archive.

    Args:
        manifest_id: Whose files they are.
        group: A recording's id, or DOCKING.

    Raises:
        ValueError: Our own mistake: *group* is neither.
    """
    if group != DOCKING and _UUID7.fullmatch(group) is None:
        raise ValueError(f"{group!r} is not a group of a manifest")
    return PurePosixPath(INCOMING) / manifest_id / group


def is_bag_name(name: str) -> bool:
    """Return whether a folder of this name in the archive is a bag, or should be one."""
    identifier, part = name[:_UUID_CHARACTERS], name[_UUID_CHARACTERS:]
    return _UUID7.fullmatch(identifier) is not None and _PART.fullmatch(part) is not None


def is_misplaced(location: Sequence[str], *, bag_name: str, day: date | None) -> bool:
    """Return whether a bag stands where another bag should stand.

    A copy of a bag may stand anywhere, under any name that is not another bag's.

    Args:
        location: The components of the bag's absolute path.
        bag_name: The name of its folder in the archive.
        day: The day that it belongs to, if it is known.
    """
    if not is_bag_name(location[-1]):
        return False
    if location[-1] != bag_name:
        return True
    found = "/".join(location[-5:-2])
    return day is not None and _DAY.fullmatch(found) is not None and found != str(_day_path(day))


def _day_path(day: date) -> PurePosixPath:
    return PurePosixPath(f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}")
