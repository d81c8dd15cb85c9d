"""What a part of the soak says when it is over."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was done, by name, and every fault that was found."""

    rows: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]
