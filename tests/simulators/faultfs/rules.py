"""What goes wrong, at which operation, on which path, how often; and what happened."""

from dataclasses import dataclass, field
from enum import StrEnum, unique
from fnmatch import fnmatchcase
from typing import Any, Final


@unique
class Operation(StrEnum):
    """What a program asks for, as far as a test can aim at it."""

    OPEN = "open"
    READ = "read"
    LIST = "list"
    CREATE = "create"
    WRITE = "write"
    TRUNCATE = "truncate"
    CHANGE_MODE = "change mode"
    SYNC_FILE = "sync file"
    SYNC_FOLDER = "sync folder"
    MAKE_FOLDER = "make folder"
    REMOVE_FOLDER = "remove folder"
    LINK = "link"
    RENAME = "rename"
    UNLINK = "unlink"


# At each of these a power cut can leave something else than before.
MUTATING: Final = frozenset(Operation) - {Operation.OPEN, Operation.READ, Operation.LIST}
# What a disk that has become read-only refuses.
REFUSED_READ_ONLY: Final = MUTATING - {Operation.SYNC_FILE, Operation.SYNC_FOLDER}


@unique
class Effect(StrEnum):
    """What happens instead of, or beside, the operation."""

    ERROR = "error"  # it fails with the errno `value`
    SHORT = "short"  # a read or a write does at most `value` bytes
    LOST_WRITE = "lost write"  # success; the bytes that were there before stay
    STALE_READ = "stale read"  # what the durable world has, in the size of the live one
    LOST_PAGES = "lost pages"  # of a sync: EIO, and what was written counts as clean
    IGNORED = "ignored"  # of a sync: success, and nothing is durable
    STALL = "stall"  # it waits until it is released
    CRASH_BEFORE = "crash before"  # the power goes; the operation does not happen
    CRASH_AFTER = "crash after"  # it happens, then the power goes; nobody is told


@dataclass(slots=True, kw_only=True)
class Rule:
    """One fault.

    Attributes:
        operations: Which it may hit.
        path: A pattern (fnmatch) for the path below the mount; ``*`` also matches slashes.
        skip: How many that match go by before the first is hit.
        times: How many are hit; None: all that follow.
        value: See `Effect`. Of a crash: the seed of a torn one; None: nothing survives.
        met: How many matched so far.
        hits: How many of them were hit.
    """

    operations: frozenset[Operation]
    effect: Effect
    path: str = "*"
    skip: int = 0
    times: int | None = 1
    value: int | None = None
    met: int = 0
    hits: int = 0

    @classmethod
    def parse(cls, message: dict[str, Any]) -> "Rule":
        return cls(
            operations=frozenset(map(Operation, message["operations"])),
            effect=Effect(message["effect"]),
            path=message["path"],
            skip=message["skip"],
            times=message["times"],
            value=message["value"],
        )

    def strikes(self, operation: Operation, paths: tuple[str, ...]) -> bool:
        """Count an operation, and say whether it is hit."""
        if operation not in self.operations:
            return False
        if not any(fnmatchcase(path, self.path) for path in paths):
            return False
        self.met += 1
        if self.met <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One operation that a program asked for.

    Attributes:
        paths: One, or both of a rename or link.
        offset: Of a read or write.
        size: Of a read, write or truncation.
    """

    operation: Operation
    paths: tuple[str, ...]
    offset: int = 0
    size: int = 0

    def message(self) -> list[Any]:
        return [self.operation, list(self.paths), self.offset, self.size]

    @classmethod
    def parse(cls, message: list[Any]) -> "Traced":
        operation, paths, offset, size = message
        return cls(operation=Operation(operation), paths=tuple(paths), offset=offset, size=size)


@dataclass(slots=True, kw_only=True)
class Disk:
    """What can be scripted of the disk as a whole.

    Attributes:
        capacity_bytes: How much content it holds; beyond, ENOSPC, after as much as fits;
            None: any amount.
        capacity_nodes: How many files and folders it holds; beyond, ENOSPC; None: any number.
        shown_free_bytes: What statvfs says is free, whatever is true; None: what is true.
        read_only: EROFS for whoever changes something.
    """

    capacity_bytes: int | None = None
    capacity_nodes: int | None = None
    shown_free_bytes: int | None = None
    read_only: bool = False
    rules: list[Rule] = field(default_factory=list)
    trace: list[Traced] = field(default_factory=list)

    def strike(self, traced: Traced) -> Rule | None:
        """Note an operation; every rule counts it, the first that is due is returned."""
        self.trace.append(traced)
        due = [rule for rule in self.rules if rule.strikes(traced.operation, traced.paths)]
        return due[0] if due else None
