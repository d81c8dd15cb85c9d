"""Where manifests and files stand at the archive; the values are written to the catalogue."""

from enum import Enum, unique


@unique
class ManifestState(Enum):
    """Where a kept manifest stands."""

    WAITING = "waiting"
    ADMITTED = "admitted"
    ARCHIVED = "archived"
    REFUSED = "refused"


@unique
class FileState(Enum):
    """Where a promised file stands; a matched one is wanted only if its match is found bad."""

    MISSING = "missing"
    MATCHED = "matched"
    ARRIVED = "arrived"
    ARCHIVED = "archived"
