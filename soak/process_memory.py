"""How much memory programs had at most, as the kernel counts it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from demo.programs import Program

_MIB: Final = 1 << 20
# What each stays below with 24 bays, 100,000 files and a clip of 200 GB: a dock is a small machine.
MOST_MEMORY_BYTES: Final = {"edge-agent": 200_000_000, "server-agent": 256 * _MIB}


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

    def above(self, limits: Mapping[str, int] = MOST_MEMORY_BYTES) -> Iterator[str]:
        """Yield a fault for each program that had more than its limit."""
        for name, most in self._bytes.items():
            if most > limits[name]:
                yield f"{name} had {most // _MIB} MiB of memory, at most {limits[name] // _MIB}"
