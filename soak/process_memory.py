"""How much memory programs had at most, as the kernel counts it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from demo.programs import Program

# What a dock with 24 bays, 100,000 files or a clip of 200 GB stays below.
MOST_MEMORY_BYTES: Final = 200 << 20

_MIB: Final = 1 << 20


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process ever had; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    told = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(told[0]) * 1024 if told else 0


class Peaks:
    """The most that each program had, over all its lives."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def look(self, *programs: Program) -> None:
        """Take note of what they have had so far."""
        for program in programs:
            before = self._bytes.get(program.name, 0)
            self._bytes[program.name] = max(before, peak_bytes(program.pid))

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return each program's name, and its memory for people."""
        return tuple((name, f"{most // _MIB} MiB") for name, most in self._bytes.items())

    def above(self, limit_bytes: int) -> Iterator[str]:
        """Yield a fault for each program that had more."""
        for name, most in self._bytes.items():
            if most > limit_bytes:
                yield f"{name} had {most // _MIB} MiB of memory, at most {limit_bytes // _MIB}"
