"""What one run of the benchmark found, as it stands in its JSON."""

from enum import Enum, unique
from pathlib import Path

import msgspec

from bench.figures import Figure


@unique
class ReadBack(Enum):
    """Whether the copy was read again and compared, and from where."""

    NONE = "none"
    MEMORY = "from memory"
    DISK = "from disk"

    @property
    def rank(self) -> int:
        """The higher, the more is proved."""
        return list(ReadBack).index(self)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the copies when the clock stops.

    Attributes:
        files_synced: Every file is on the disk.
        names_synced: Its name is, too: a power cut takes away neither.
        digest: What was recorded of each file, made from what the source gave.
        journal: Kept in a journal and signed.
    """

    files_synced: bool
    names_synced: bool
    digest: str | None
    read_back: ReadBack
    journal: bool = False


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One timed run.

    Attributes:
        cpu_s: User and system time of the programs; the kernel's own threads are not in it.
        peak_bytes: The most memory at any time; not measured of peers.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one contender with one load.

    Attributes:
        level: Of our own: L1, L2 or L3; None of a peer.
    """

    name: str
    command: str
    evidence: Evidence
    runs: tuple[Run, ...]
    level: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine did at one moment, in bytes per second.

    Attributes:
        mixed_bytes_s: Read and written together, when half of the load is each.
        hash_bytes_s: SHA-256 on all cores at once.
        hash_core_bytes_s: SHA-256 on one core alone.
        source_bytes_s: Reading a source, one reader.
    """

    write_bytes_s: float
    read_bytes_s: float
    mixed_bytes_s: float
    hash_bytes_s: float
    hash_core_bytes_s: float
    sm3_core_bytes_s: float
    source_bytes_s: float


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The least, the middle and the greatest of some runs."""

    least: float
    median: float
    most: float


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One load, and everybody's runs with it.

    Attributes:
        bay_bytes: What each recorder holds.
        limits: Before each round, and after the last.
    """

    name: str
    bays: int
    files: int
    bay_bytes: int
    total_bytes: int
    limits: tuple[Limits, ...]
    series: tuple[Series, ...]

    def of_level(self, level: str) -> Series:
        """Return our own series of a level."""
        return next(one for one in self.series if one.level == level)

    def peer(self, name: str) -> Series:
        """Return a peer's series."""
        return next(one for one in self.series if one.level is None and one.name == name)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What it was measured on."""

    cores: int
    memory_mib: int
    processor: str
    system: str
    python: str
    file_system: str


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the benchmark.

    Attributes:
        figures: What was measured beyond the cases: uplink and admission.
    """

    measured_at: str
    command: str
    revision: str
    machine: Machine
    tools: dict[str, str]
    cases: tuple[Case, ...]
    figures: tuple[Figure, ...]

    def case(self, name: str) -> Case:
        """Return the case of that name."""
        return next(one for one in self.cases if one.name == name)


def write_results(path: Path, results: Results) -> None:
    """Write a run as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read_results(path: Path) -> Results:
    """Return the run that stands in a file.

    Raises:
        OSError, msgspec.DecodeError: It cannot be read, or holds something else.
    """
    return msgspec.json.decode(path.read_bytes(), type=Results)
